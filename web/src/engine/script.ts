// The experiment as a Python script, and as a command of the library.
import tables from "tables:data";
import type { Rule, RunSetting, State, Switch } from "../types";
import { functionOf, numbersOf } from "./experiment";
import type { Tree } from "./parse";
import { ruleOf } from "./rule";
import { float, quote } from "./words";

const WHOLE = new Set(["seed", "steps"]);
const literal = (value: Switch, name = ""): string =>
  typeof value === "string"
    ? quote(value)
    : typeof value === "boolean"
      ? value
        ? "True"
        : "False"
      : WHOLE.has(name)
        ? String(value)
        : float(value);
const isRmsprop = (setting: RunSetting) => setting.optimizer === "rmsprop";
const changesOf = (rule: Rule): [string, Switch][] =>
  Object.entries(rule).filter(([name, value]) => value !== tables.rule[name]);

/** A script that does the same runs with `step` and prints their last points with all digits. */
export function writePython(state: State): string {
  const { runs, noise, steps } = state;
  const names = new Set(["expression"]);
  for (const setting of runs) {
    if (!isRmsprop(setting)) names.add("baselines");
    else {
      names.add("RMSprop");
      if (setting.dialect) names.add("dialects");
      else if (changesOf(ruleOf(setting)).length) names.add("Rule");
    }
  }
  const hasNoise = noise.kind !== "none" && noise.scale !== 0;
  const drawn = {
    none: [],
    gauss: [`noise = ${float(noise.scale)} * np.random.default_rng(${noise.seed}).standard_normal((${steps}, 2))`],
    hinton: [
      `noise = np.zeros((${steps}, 2))`,
      `noise[:, 0] = ${float(noise.scale)} * np.resize(np.array([0.1] * 9 + [-0.9]), ${steps})`,
    ],
  }[noise.kind];
  return [
    "import numpy as np",
    "",
    `from rmsprop import ${[...names].sort((a, b) => (a.toLowerCase() < b.toLowerCase() ? -1 : 1)).join(", ")}`,
    "",
    `f = expression.parse(${quote(state.text)}, variables=("x", "y"))`,
    ...(isExact(functionOf(state.text).tree) ? [] : [INEXACT]),
    ...(hasNoise ? drawn : []),
    "optimizers = {",
    ...runs.map((each, i) => `    '${i + 1} ${each.dialect ?? each.optimizer}': lambda p: ${writeMaker(each)},`),
    "}",
    "for name, make in optimizers.items():",
    `    p = np.array([${state.start.map(float).join(", ")}])`,
    "    optimizer = make(p)",
    `    for t in range(${steps}):`,
    `        optimizer.step(f.grad(p)${hasNoise ? " + noise[t]" : ""})`,
    "    print(name, p.tolist(), f(p))",
    "",
  ].join("\n");
}

function writeMaker(setting: RunSetting): string {
  const lr = float(setting.lr);
  if (!isRmsprop(setting)) {
    const row = tables.optimizers.find((each) => each.name === setting.optimizer)!;
    const own = Object.entries(numbersOf(setting)).map(([name, value]) => `, ${name}=${float(value)}`);
    return `baselines.${row.class}(p, lr=${lr}${own.join("")})`;
  }
  const list = (changes: [string, Switch][]) => changes.map(([name, value]) => `${name}=${literal(value)}`).join(", ");
  if (setting.dialect) {
    const rule = `dialects.get(${quote(setting.dialect)}).resolve(${list(Object.entries(setting.own))})`;
    return `RMSprop(p, lr=${lr}, dialect=${rule})`;
  }
  const changes = changesOf(ruleOf(setting));
  return `RMSprop(p, lr=${lr}${changes.length ? `, dialect=Rule(${list(changes)})` : ""})`;
}

/** An `rmsprop compare` (or `minimize`) command for these runs, or null if they cannot be written as one.
 *
 * The command has one RMSprop with any switches; the others are baselines with their default hyperparameters and
 * unchanged dialects, each with its own learning rate. */
export function writeCommand(state: State): string | null {
  const { runs, noise, steps, start, text } = state;
  const first = runs.find(isRmsprop);
  const isNoisy = noise.kind !== "none" && noise.scale !== 0;
  const isFlat = !hasY(functionOf(text).tree);
  if (!first || (isNoisy && (noise.kind !== "gauss" || isFlat))) return null;
  const others = runs.filter((each) => each !== first).map((each) => nameSetting(each, first.lr));
  if (others.includes(null)) return null;
  const place = (isFlat ? start.slice(0, 1) : start).map(float).join(",");
  const words = ["--start", place, "--lr", float(first.lr), "--steps", String(steps)];
  if (first.dialect) words.push("--dialect", first.dialect);
  words.push(...writeSwitches(first));
  if (isNoisy) words.push("--noise", float(noise.scale), "--seed", String(noise.seed));
  if (others.length) words.push("--with", others.join(","));
  const name = ["rmsprop", others.length ? "compare" : "minimize"];
  // A text that begins with a minus sign would be read as an option.
  const all = text.startsWith("-") ? [...name, ...words, "--", text] : [...name, text, ...words];
  return all.map((word) => (/^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", `'"'"'`)}'`)).join(" ");
}

const EXACT = ["negate", "+", "-", "*", "/", "sqrt", "abs", "sign", "floor", "relu"];
const INEXACT = "# The page has the browser's sin, exp, log and so on: within 4 units in the last place of NumPy's.";

/** Whether its values have the same bits in the browser and in NumPy. */
const isExact = (tree: Tree): boolean =>
  typeof tree !== "object" ||
  (tree.name === "^"
    ? Number.isInteger(tree.parts[1]) && Math.abs(Number(tree.parts[1])) <= 16 && isExact(tree.parts[0])
    : EXACT.includes(tree.name) && tree.parts.every(isExact));

const hasY = (tree: Tree): boolean => tree === "y" || (typeof tree === "object" && tree.parts.some(hasY));

/** NAME or NAME:LR for `--with`, or null for a setting without a name. */
function nameSetting(setting: RunSetting, lr: number): string | null {
  const rate = setting.lr === lr ? "" : `:${float(setting.lr)}`;
  if (!isRmsprop(setting)) {
    const usual = numbersOf({ ...setting, own: {} });
    const isUsual = Object.entries(numbersOf(setting)).every(([name, value]) => value === usual[name]);
    return isUsual ? `${setting.optimizer}${rate}` : null;
  }
  if (setting.dialect && !Object.keys(setting.own).length) return `${setting.dialect}${rate}`;
  const rule = ruleOf(setting);
  const same = tables.dialects.find((row) => Object.entries(rule).every(([name, value]) => value === row.rule[name]));
  return same ? `${same.name}${rate}` : null;
}

function writeSwitches(setting: RunSetting): string[] {
  const rule = ruleOf(setting);
  return Object.keys(tables.rule).flatMap((name) => {
    const value = rule[name]!;
    const isGiven = setting.dialect
      ? name in setting.own
      : name === "rho" || name === "eps" || value !== tables.rule[name];
    if (!isGiven) return [];
    const flag = name.replaceAll("_", "-");
    if (typeof value !== "boolean") return [`--${flag}`, typeof value === "number" ? float(value) : value];
    return [value ? `--${flag}` : name === "maximize" ? "--minimize" : `--no-${flag}`];
  });
}
