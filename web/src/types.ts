// What the server sends and what the page keeps.

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
}

/** A row of the server's table, rmsprop/optimizers.py: colors, and the marker in matplotlib's words. */
export interface Optimizer {
  name: string;
  label: string;
  light: string;
  dark: string;
  marker: string;
  lr_scale: number;
  hyperparameters: Record<string, number>;
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
