// The page's state, and its form in the link: readable keys, every value bounded when it is read.
import { clamp } from "./dom";
import { optimizerOf } from "./optimizers";
import type { Catalog, Noise, Pair, RunSetting, Scene, State, Switch } from "./types";

const VERSION = "1";
const FAR = 1e6;
/** The number of runs in a catalog's limits. */
const MOST_RUNS = 8;
const TABS = ["curves", "steps", "heat", "basins", "apart", "notes", "table"];

export function setting(optimizer: string, lr: number): RunSetting {
  return { optimizer, lr, dialect: null, own: { ...optimizerOf(optimizer)?.hyperparameters } };
}

/** Whom a caption speaks of: its words, and a run that fits them. */
const CAST: [words: RegExp, fits: (run: RunSetting) => boolean, run: () => RunSetting][] = [
  [/RMSprop|mean square/, (run) => run.optimizer === "rmsprop", () => setting("rmsprop", 0)],
  [/gradient descent/, (run) => run.optimizer === "gradient_descent", () => setting("gradient_descent", 0)],
  [
    /with momentum 0\.9/,
    (run) => run.optimizer === "rmsprop" && run.own.momentum === 0.9,
    () => ({ ...setting("rmsprop", 0), own: { momentum: 0.9 } }),
  ],
  [/rho 0,/, (run) => run.own.rho === 0, () => ({ ...setting("rmsprop", 0), own: { rho: 0 } })],
];

/** The runs that a caption speaks of and that are not on stage. */
export const missing = (caption: string, runs: RunSetting[]): RunSetting[] =>
  CAST.filter(([words, fits]) => words.test(caption) && !runs.some(fits)).map(([, , run]) => run());

export function ofScene(scene: Scene, runs?: RunSetting[]): State {
  // Rates far above 1 / curvature make plain descent diverge.
  const gentle = (name: string) => Number((scene.lr * (optimizerOf(name)?.lr_scale ?? 1)).toPrecision(3));
  const usual = [
    "rmsprop",
    "adagrad",
    /gradient descent/.test(scene.teaches) ? "gradient_descent" : "momentum",
    "adam",
  ].map((name) => setting(name, gentle(name)));
  const brought = runs ? runs.map((run) => ({ ...run, lr: gentle(run.optimizer) })) : usual;
  const cast = missing(scene.teaches, brought).map((run) => ({ ...run, lr: gentle(run.optimizer) }));
  return {
    text: scene.text,
    domain: structuredClone(scene.domain),
    start: [...scene.start],
    steps: scene.steps,
    noise: { kind: "none", scale: 1, seed: 0 },
    runs: [...brought, ...cast].slice(0, MOST_RUNS),
    step: 0,
    tab: "curves",
  };
}

/** Lecture 6e: nine mini-batches push x by +0.1, the tenth by -0.9. */
export function hinton(): State {
  return {
    text: "0.05*y^2",
    domain: [
      [-8, 8],
      [-4, 4],
    ],
    start: [5, 2.5],
    steps: 200,
    noise: { kind: "hinton", scale: 1, seed: 0 },
    runs: [
      { ...setting("rmsprop", 0.05), own: { rho: 0.9 } },
      { ...setting("rmsprop", 0.05), own: { rho: 0, eps: 0 } },
      setting("gradient_descent", 0.2),
    ],
    step: 0,
    tab: "curves",
  };
}

export function toHash(state: State): string {
  const query = new URLSearchParams();
  query.set("v", VERSION);
  query.set("f", state.text);
  query.set("x", state.domain[0].join(","));
  query.set("y", state.domain[1].join(","));
  query.set("start", state.start.join(","));
  query.set("steps", String(state.steps));
  if (state.noise.kind !== "none") {
    query.set("noise", `${state.noise.kind},${state.noise.scale},${state.noise.seed}`);
  }
  for (const run of state.runs) {
    const own = Object.entries(run.own).map(([name, value]) => `${name}=${value}`);
    const dialect = run.dialect ? [`dialect=${run.dialect}`] : [];
    query.append("run", [run.optimizer, `lr=${run.lr}`, ...dialect, ...own].join(","));
  }
  query.set("t", String(Math.floor(state.step)));
  query.set("tab", state.tab);
  // What a fragment may hold as it is stays readable.
  const readable: Record<string, string> = { "%2C": ",", "%3D": "=", "%28": "(", "%29": ")", "%5E": "^", "%2F": "/" };
  return `#${query.toString().replace(/%(2C|3D|28|29|5E|2F)/g, (code) => readable[code]!)}`;
}

class Broken extends Error {}

function numbers(text: string | null, count: number, low: number, high: number): number[] {
  const found = (text ?? "").split(",").map((part) => (part.trim() ? Number(part) : Number.NaN));
  if (found.length !== count || !found.every((n) => Number.isFinite(n))) throw new Broken(`numbers in "${text}"`);
  return found.map((n) => clamp(n, low, high));
}

const KNOWN_TEXT = /^[a-z_]{1,24}$/;

function readRun(text: string, catalog: Catalog): RunSetting {
  const [optimizer = "", ...parts] = text.split(",");
  if (!catalog.optimizers.some((each) => each.name === optimizer)) throw new Broken(`optimizer "${optimizer}"`);
  const known = optimizer === "rmsprop" ? catalog.rule : (optimizerOf(optimizer)?.hyperparameters ?? {});
  const run: RunSetting = { optimizer, lr: Number.NaN, dialect: null, own: {} };
  for (const part of parts.slice(0, 24)) {
    const [name = "", value = ""] = part.split("=");
    if (name === "lr") run.lr = numbers(value, 1, 0, FAR)[0]!;
    else if (name === "dialect") {
      if (!catalog.dialects.some((each) => each.name === value)) throw new Broken(`dialect "${value}"`);
      run.dialect = value;
    } else if (Object.hasOwn(known, name)) run.own[name] = readSwitch(value);
    else throw new Broken(`"${name}"`);
  }
  if (Number.isNaN(run.lr)) throw new Broken("an optimizer without lr");
  return run;
}

function readSwitch(value: string): Switch {
  if (value === "true" || value === "false") return value === "true";
  if (KNOWN_TEXT.test(value)) return value;
  return numbers(value, 1, -FAR, FAR)[0]!;
}

/** Read a link. Throws with a reason if it is none of ours, or damaged. */
export function fromHash(hash: string, catalog: Catalog): State {
  if (hash.length > 4000) throw new Broken("more than 4000 characters");
  const query = new URLSearchParams(hash.replace(/^#/, ""));
  if (query.get("v") !== VERSION) throw new Broken(`version "${query.get("v")}"`);
  const text = query.get("f") ?? "";
  if (!text || text.length > 400) throw new Broken("the function");
  const domain = [numbers(query.get("x"), 2, -FAR, FAR), numbers(query.get("y"), 2, -FAR, FAR)] as [Pair, Pair];
  if (domain.some(([low, high]) => !(high > low))) throw new Broken("the picture's range");
  const noise: Noise = { kind: "none", scale: 1, seed: 0 };
  const given = query.get("noise");
  if (given) {
    const [kind, ...rest] = given.split(",");
    if (kind !== "gauss" && kind !== "hinton") throw new Broken(`noise "${kind}"`);
    const [scale, seed] = numbers(rest.join(","), 2, 0, FAR) as Pair;
    Object.assign(noise, { kind, scale, seed: Math.round(seed) });
  }
  const runs = query.getAll("run").slice(0, catalog.limits.runs);
  if (!runs.length) throw new Broken("no optimizer");
  const steps = Math.round(numbers(query.get("steps"), 1, 1, catalog.limits.steps)[0]!);
  const tab = query.get("tab") ?? "curves";
  return {
    text,
    domain,
    start: numbers(query.get("start"), 2, -FAR, FAR) as Pair,
    steps,
    noise,
    runs: runs.map((run) => readRun(run, catalog)),
    step: Math.round(numbers(query.get("t") ?? "0", 1, 0, steps)[0]!),
    tab: TABS.includes(tab) ? tab : "curves",
  };
}
