// What the worker answers and what the page keeps.

export type Pair = [number, number];
export type Switch = number | string | boolean;
export type Rule = Record<string, Switch>;

export interface Scene {
  name: string;
  title: string;
  text: string;
  domain: [Pair, Pair];
  start: Pair;
  lr: number;
  steps: number;
  teaches: string;
  log_scale: boolean;
  minima: Pair[];
  minimum: number | null;
}

export interface Dialect {
  name: string;
  title: string;
  lr: number | null;
  rule: Rule;
  /** How a change travels there, as in src/rmsprop/dialects/_model.py. */
  offers: string[];
  momentum_buffer: string;
  weight_decay_modes: string[];
  choices: Record<string, Switch[]>;
  refuses: Record<string, string>;
  nonzero: Record<string, string>;
  needs: Record<string, string>;
  when: { switch: string; then: Rule }[];
}

/** A row of the table rmsprop/optimizers.py: colors, and the marker in matplotlib's words. */
export interface Optimizer {
  name: string;
  label: string;
  light: string;
  dark: string;
  marker: string;
  lr_scale: number;
  hyperparameters: Record<string, number>;
  /** Its class in rmsprop.baselines. */
  class: string;
}

export interface Catalog {
  scenes: Scene[];
  dialects: Dialect[];
  optimizers: Optimizer[];
  rule: Rule;
  limits: { steps: number; runs: number; cells: number };
  version: string;
}

export interface RunSetting {
  optimizer: string;
  lr: number;
  dialect: string | null;
  /** RMSprop: switches that differ from the dialect's. A baseline: its own numbers. */
  own: Record<string, Switch>;
}

export interface Noise {
  kind: "none" | "gauss" | "hinton";
  scale: number;
  seed: number;
}

export interface State {
  text: string;
  domain: [Pair, Pair];
  start: Pair;
  steps: number;
  noise: Noise;
  runs: RunSetting[];
  step: number;
  tab: string;
}

export interface RunAbout {
  optimizer: string;
  title: string;
  dialect: string | null;
  lr: number;
  rule: Rule | null;
  own: Record<string, number>;
  /** Whether the optimizer keeps a mean or sum of squared gradients. */
  accumulates: boolean;
  broken: number | null;
  exit: number | null;
}

export interface Note {
  run: number;
  step: number | null;
  text: string;
}

/** One run: flat arrays, two numbers (x, y) to a row. */
export interface Run extends RunAbout {
  steps: number;
  x: Float64Array;
  f: Float64Array;
  grad: Float64Array;
  statistic: Float64Array;
  rate: Float64Array;
}

export interface Result {
  runs: Run[];
  notes: Note[];
  python: string;
  command: string | null;
  steps: number;
}

export interface Surface {
  domain: [Pair, Pair];
  cells: number;
  f: Float64Array;
}

/** One of the page's requests to the worker; of a state's runs, all but "run" take the first. */
export type Request =
  | { kind: "surface"; text: string; domain: [Pair, Pair]; cells: number }
  | { kind: "run" | "basins"; state: State }
  | { kind: "sweep"; state: State; name: "rho" | "eps" }
  | { kind: "rates"; state: State; lr: Float64Array };

export type Answer = { id: number; value: unknown } | { id: number; error: { message: string; column: number | null } };

/** f after the last step: rows of the second hyperparameter, columns of lr. */
export interface Heat {
  f: Float64Array;
  lr: Float64Array;
  other: Float64Array;
}

export interface Basins {
  count: number;
  /** For each start the number of its minimum; -1: still moving, -2: at rest elsewhere, -3: diverged. */
  label: Float64Array;
  minima: Float64Array;
  share: number;
}

/** Python's tables, made when the page is built (src/rmsprop/lab/tables.py). */
export interface Tables extends Catalog {
  language: {
    functions: string[];
    aliases: Record<string, string>;
    constants: Record<string, number>;
    /** For a character that is not in the language: its name, and what to type instead. */
    hints: Record<string, [string, string]>;
  };
  /** The widths of the layers that NumPy's normal numbers are multiples of, in units of 2^52. */
  ziggurat: number[];
}
