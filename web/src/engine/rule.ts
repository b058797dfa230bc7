// The rule of a run: Dialect.resolve (src/rmsprop/dialects/_model.py) and the checks of rmsprop.Rule.
import tables from "tables:data";
import type { Dialect, Rule, RunSetting, Switch } from "../types";
import { quote } from "./words";

export class InputError extends Error {}

const isOn = (value: Switch | undefined) => value === true || (typeof value === "number" && value > 0);
const shown = (value: Switch) =>
  typeof value === "string" ? quote(value) : typeof value === "boolean" ? (value ? "True" : "False") : `${value}`;

/** All switches of a run's rule, checked. Throws InputError. */
export function ruleOf({ dialect, own }: RunSetting): Rule {
  const row = tables.dialects.find((each) => each.name === dialect);
  const changes = { ...own };
  if (row) return check(resolve(row, changes));
  // Momentum and weight decay bring their usual modes.
  if (isOn(changes.momentum)) changes.buffer ??= "unit";
  if (isOn(changes.weight_decay)) changes.weight_decay_mode ??= "l2";
  return check({ ...tables.rule, ...changes });
}

function resolve(row: Dialect, changes: Rule): Rule {
  const base = { ...row.rule, ...imply(row, { ...row.rule, ...changes }, changes) };
  for (const [name, value] of Object.entries(changes)) {
    let reason = value === base[name] ? "" : objection(row, name, value, { ...base, ...changes });
    if (!reason && name in row.nonzero && value === 0) reason = `expected more than 0: ${row.nonzero[name]}`;
    if (reason) throw new InputError(`dialect '${row.name}': ${name}=${shown(value)}, ${reason}`);
  }
  return { ...base, ...changes };
}

function imply(row: Dialect, settings: Rule, changes: Rule): Rule {
  const implied: Rule = {};
  for (const { switch: name, then } of row.when) if (isOn(settings[name])) Object.assign(implied, then);
  if (isOn(settings.weight_decay) && row.weight_decay_modes.length) {
    implied.weight_decay_mode = row.weight_decay_modes[0]!;
  }
  const momentum = changes.momentum ?? implied.momentum ?? row.rule.momentum;
  const hasBuffer = isOn(momentum) || implied.weight_decay_mode === "in_buffer";
  return { ...implied, buffer: hasBuffer ? row.momentum_buffer : "none" };
}

/** Why the framework cannot set a switch to this value, or "". */
function objection(row: Dialect, name: string, value: Switch, settings: Rule): string {
  const offers = row.offers.length ? `it offers ${row.offers.join(", ")}` : "it offers nothing to set";
  if (name in row.refuses) return `but ${row.refuses[name]}; ${offers}`;
  const other = row.needs[name];
  if (other !== undefined && !isOn(settings[other])) return `but ${row.title} reads it only with ${other}=True`;
  let choices: Switch[] = row.choices[name] ?? [value];
  if (name === "buffer" && row.momentum_buffer !== "none") {
    choices = ["none", row.momentum_buffer, ...(row.choices.buffer ?? [])];
  } else if (name === "weight_decay_mode" && row.weight_decay_modes.length) {
    choices = ["none", ...row.weight_decay_modes];
  } else if (!row.offers.includes(name)) return `but ${row.title} has no such option; ${offers}`;
  return choices.includes(value) ? "" : `expected one of ${choices.map(shown).join(", ")}; ${offers}`;
}

const CHOICES: Record<string, string[]> = {
  eps_mode: ["outside", "inside", "max"],
  buffer: ["none", "unit", "lr"],
  nesterov: ["none", "post"],
  weight_decay_mode: ["none", "l2", "decoupled", "decoupled_corrected", "in_buffer"],
};
const RANGES: Record<string, [number, number]> = {
  rho: [0, 1],
  eps: [0, Number.MAX_VALUE],
  var_floor: [0, Number.MAX_VALUE],
  momentum: [0, 1 - 2 ** -53],
  weight_decay: [0, Number.MAX_VALUE],
};

function check(rule: Rule): Rule {
  for (const [name, [low, high]] of Object.entries(RANGES)) checkNumber(rule[name], name, low, high);
  for (const [name, choices] of Object.entries(CHOICES)) {
    if (!choices.includes(String(rule[name]))) {
      throw new InputError(`${name}=${shown(rule[name]!)}, expected one of ${choices.map(quote).join(", ")}`);
    }
  }
  for (const name of ["centered", "bias_correction", "maximize"]) {
    if (typeof rule[name] !== "boolean") throw new InputError(`${name}=${shown(rule[name]!)}, expected True or False`);
  }
  if (!["zeros", "ones", "eps"].includes(String(rule.init))) checkNumber(rule.init, "init", 0, Number.MAX_VALUE);
  const needsBuffer = "needs a momentum buffer: choose where lr acts";
  if (rule.buffer === "none") {
    if (Number(rule.momentum) > 0) throw new InputError(`momentum=${rule.momentum} ${needsBuffer}`);
    if (rule.nesterov !== "none") throw new InputError(`nesterov='${rule.nesterov}' ${needsBuffer}`);
    if (rule.weight_decay_mode === "in_buffer") throw new InputError(`weight_decay_mode='in_buffer' ${needsBuffer}`);
  }
  if (Number(rule.weight_decay) > 0 && rule.weight_decay_mode === "none") {
    throw new InputError(`weight_decay=${rule.weight_decay} needs a weight_decay_mode`);
  }
  if (rule.bias_correction && rule.rho === 1) {
    throw new InputError("bias_correction=True divides by 1 - rho**t, which is 0 at rho=1");
  }
  if (rule.bias_correction && startOf(rule) !== 0) {
    throw new InputError(
      `bias_correction=True corrects a start at zero, but init=${shown(rule.init!)}: choose one of the two`,
    );
  }
  return rule;
}

/** The mean square before the first step. */
export function startOf(rule: Rule, eps = Number(rule.eps)): number {
  return { zeros: 0, ones: 1, eps }[String(rule.init)] ?? Number(rule.init);
}

/** A finite number in [low, high], or InputError. */
export function checkNumber(value: unknown, name: string, low: number, high: number): number {
  if (typeof value !== "number" || !(value >= low && value <= high)) {
    const to = high === Number.MAX_VALUE ? "infinity" : high;
    throw new InputError(`${name}=${shown(value as Switch)}, expected a number from ${low} to ${to}`);
  }
  return value;
}
