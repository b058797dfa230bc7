// Runs, maps and basins of an experiment: what a loop of `step` in Python computes.
import tables from "tables:data";
import type { Heat, Noise, Pair, Rule, Run, RunSetting, Scene, State } from "../types";
import { BASELINES } from "./baselines";
import { Expression } from "./dual";
import { Kernel, MOST_POINTS } from "./kernel";
import { parse } from "./parse";
import { standardNormal } from "./random";
import { checkNumber, InputError, ruleOf } from "./rule";

export const HINTON = [...Array<number>(9).fill(0.1), -0.9];
/** The largest coordinate of a start. */
export const FAR = 1e6;

/** Lets other work go on between two parts of a long one; throws when nobody wants the result any more. */
export type Pause = () => Promise<void>;

/** f(x, y) of a text, kept for the next run. */
let last: { text: string; f: Expression } | null = null;
export function functionOf(text: string): Expression {
  if (last?.text !== text) last = { text, f: new Expression(parse(text)) };
  return last.f;
}

const scenes = new Map(tables.scenes.map((scene) => [JSON.stringify(parse(scene.text)), scene]));
export const sceneOf = (f: Expression): Scene | undefined => scenes.get(JSON.stringify(f.tree));

/** A run's own numbers, all of them: a baseline's, or none for RMSprop. */
export function numbersOf(setting: RunSetting): Record<string, number> {
  if (setting.optimizer === "rmsprop") return {};
  const usual = tables.optimizers.find((each) => each.name === setting.optimizer)!.hyperparameters;
  const own = { ...usual, ...(setting.own as Record<string, number>) };
  for (const [name, value] of Object.entries(own)) {
    const isDecay = name === "rho" || name === "momentum" || name.startsWith("beta");
    const low = setting.optimizer === "adadelta" && name === "eps" ? Number.MIN_VALUE : 0;
    checkNumber(value, name, low, name === "rho" ? 1 : isDecay ? 1 - 2 ** -53 : 1e6);
  }
  return own;
}

/** The noise of every step, x and y in turn, or null. */
let drawn: { key: string; noise: Float64Array } | null = null;
export function draw({ kind, scale, seed }: Noise, steps: number): Float64Array | null {
  if (kind === "none" || scale === 0) return null;
  const key = `${kind} ${scale} ${seed} ${steps}`;
  if (drawn?.key !== key) {
    const noise =
      kind === "gauss"
        ? standardNormal(seed, 2 * steps).map((value) => scale * value)
        : Float64Array.from({ length: 2 * steps }, (_, i) => (i % 2 ? 0 : scale * HINTON[(i / 2) % 10]!));
    drawn = { key, noise };
  }
  return drawn.noise;
}

/** Many points under one optimizer: x of all before y of all. */
export class Walk {
  readonly count: number;
  readonly rule: Rule | null;
  readonly own: Record<string, number>;
  /** What the optimizer keeps: the kernel's square, mean and buffer, or a baseline's arrays. */
  readonly kept: Float64Array[];
  private readonly kernel: Kernel | null = null;
  readonly x: Float64Array;
  readonly y: Float64Array;
  private readonly param: Float64Array;
  private readonly grad: Float64Array;
  private readonly byX: Float64Array;
  private readonly byY: Float64Array;
  private readonly lr: Float64Array;

  constructor(
    private readonly f: Expression,
    private readonly setting: RunSetting,
    private readonly noise: Float64Array | null,
    starts: Float64Array,
    grid?: { lr: Float64Array; rho: Float64Array; eps: Float64Array },
  ) {
    this.count = starts.length / 2;
    if (this.count > MOST_POINTS) throw new InputError(`${this.count} points, expected at most ${MOST_POINTS}`);
    this.rule = setting.optimizer === "rmsprop" ? ruleOf(setting) : null;
    this.own = numbersOf(setting);
    if (this.rule) {
      const lr = grid?.lr ?? [setting.lr];
      const rho = grid?.rho ?? [Number(this.rule.rho)];
      const eps = grid?.eps ?? [Number(this.rule.eps)];
      this.kernel = new Kernel(this.rule, lr, rho, eps, this.count / lr.length / rho.length);
      [this.param, this.grad, ...this.kept] = this.kernel.claim() as [Float64Array, Float64Array, ...Float64Array[]];
      this.lr = new Float64Array(0);
    } else {
      this.param = new Float64Array(starts.length);
      this.grad = new Float64Array(starts.length);
      this.kept = [0, 1, 2].map(() => new Float64Array(starts.length));
      const each = grid?.lr;
      this.lr = Float64Array.from(starts, (_, i) => (each ? each[i % this.count]! : setting.lr));
    }
    this.param.set(starts);
    [this.x, this.y] = [this.param.subarray(0, this.count), this.param.subarray(this.count)];
    [this.byX, this.byY] = [this.grad.subarray(0, this.count), this.grad.subarray(this.count)];
  }

  /** Write the gradient at the points, and the value where it is wanted; the noise of step t, counted from 1, comes on top. */
  look(t: number, value: Float64Array | null): Float64Array {
    this.kernel?.claim();
    const { count, grad } = this;
    const noise = this.noise;
    this.f.evaluate(this.x, this.y, count, value, this.byX, this.byY);
    if (noise && 2 * t <= noise.length) {
      for (let i = 0; i < count; i += 1) grad[i]! += noise[2 * t - 2]!;
      for (let i = count; i < 2 * count; i += 1) grad[i]! += noise[2 * t - 1]!;
    }
    return grad;
  }

  step(t: number): void {
    if (this.kernel) this.kernel.step(t);
    else {
      const [a, b, c] = this.kept as [Float64Array, Float64Array, Float64Array];
      BASELINES.get(this.setting.optimizer)!.step(this.param, this.grad, this.lr, this.own, t, a, b, c);
    }
  }

  /** The statistic after step t, and what the step multiplied the gradient by, of element i. */
  measure(t: number, i: number): Pair {
    const [a, b, c] = this.kept as [Float64Array, Float64Array, Float64Array];
    const { rule, setting } = this;
    if (!rule) {
      const { statistic, rate } = BASELINES.get(setting.optimizer)!;
      return [statistic === null ? Number.NaN : this.kept[statistic]![i]!, rate(i, setting.lr, this.own, t, a, b, c)];
    }
    const [eps, floor] = [Number(rule.eps), Number(rule.var_floor)];
    const statistic = rule.centered ? a[i]! + b[i]! * b[i]! : a[i]!;
    let square = rule.centered && rule.bias_correction && t === 1 ? statistic : a[i]!;
    square = square < floor ? floor : square;
    const root = Math.sqrt(rule.eps_mode === "inside" ? square + eps : square);
    const divisor = rule.eps_mode === "outside" ? root + eps : rule.eps_mode === "max" && root < eps ? eps : root;
    return [statistic, setting.lr / divisor];
  }
}

/** Run a setting from the start; it ends early where a number is not finite. */
export function walk(state: State, setting: RunSetting): Run {
  const { steps } = state;
  checkExperiment(state, setting);
  const walk = new Walk(functionOf(state.text), setting, draw(state.noise, steps), Float64Array.from(state.start));
  const x = new Float64Array(2 * steps + 2);
  const [grad, statistic, rate] = [0, 0, 0].map(() => new Float64Array(2 * steps)) as [
    Float64Array,
    Float64Array,
    Float64Array,
  ];
  const f = new Float64Array(steps + 1);
  const value = new Float64Array(1);
  let [done, broken]: [number, number | null] = [0, null];
  x.set(walk.x);
  x.set(walk.y, 1);
  let slopes = walk.look(1, value);
  f[0] = value[0]!;
  while (done < steps && broken === null) {
    grad[2 * done] = slopes[0]!;
    grad[2 * done + 1] = slopes[1]!;
    done += 1;
    walk.step(done);
    for (const i of [0, 1]) [statistic[2 * done - 2 + i], rate[2 * done - 2 + i]] = walk.measure(done, i);
    x[2 * done] = walk.x[0]!;
    x[2 * done + 1] = walk.y[0]!;
    slopes = walk.look(done + 1, value);
    f[done] = value[0]!;
    if (!Number.isFinite(f[done]! + slopes[0]! + slopes[1]! + x[2 * done]! + x[2 * done + 1]!)) broken = done;
  }
  const { optimizer, dialect, lr } = setting;
  return {
    optimizer,
    title: tables.optimizers.find((each) => each.name === optimizer)!.label,
    dialect,
    lr,
    rule: walk.rule,
    own: walk.own,
    accumulates: walk.rule !== null || BASELINES.get(optimizer)!.statistic !== null,
    broken,
    exit: findExit(x.subarray(0, 2 * done + 2), state.domain),
    steps: done,
    x: x.slice(0, 2 * done + 2),
    f: f.slice(0, done + 1),
    grad: grad.slice(0, 2 * done),
    statistic: statistic.slice(0, 2 * done),
    rate: rate.slice(0, 2 * done),
  };
}

/** The first point outside the picture after which the run does not come back, or null. */
function findExit(x: Float64Array, [[left, right], [bottom, top]]: [Pair, Pair]): number | null {
  let point = x.length / 2;
  const isInside = (t: number) =>
    x[2 * t]! >= left && x[2 * t]! <= right && x[2 * t + 1]! >= bottom && x[2 * t + 1]! <= top;
  while (point > 0 && !isInside(point - 1)) point -= 1;
  return point < x.length / 2 ? point : null;
}

export function checkExperiment(state: State, setting: RunSetting): void {
  for (const [axis, value] of state.start.entries()) checkNumber(value, `start ${"xy"[axis]}`, -FAR, FAR);
  for (const [axis, [low, high]] of state.domain.entries()) {
    if (!(high - low >= 1e-9))
      throw new InputError(`${"xy"[axis]}: from ${low} to ${high}, expected the second to be larger`);
  }
  checkNumber(state.steps, "steps", 1, tables.limits.steps);
  checkNumber(setting.lr, "lr", 0, 1e6);
}

/** f on a grid of points, cells + 1 to a side, row by row from the lowest. */
export function surface(text: string, [[left, right], [bottom, top]]: [Pair, Pair], cells: number): Float64Array {
  const side = cells + 1;
  const place = (low: number, high: number, i: number) => (i === cells ? high : low + i * ((high - low) / cells));
  const x = Float64Array.from({ length: side * side }, (_, i) => place(left, right, i % side));
  const y = Float64Array.from({ length: side * side }, (_, i) => place(bottom, top, Math.floor(i / side)));
  const f = new Float64Array(side * side);
  functionOf(text).evaluate(x, y, side * side, f, null, null);
  return f;
}

/** `count` numbers from low to high, even in the logarithm; the ends exact. */
export const spread = (low: number, high: number, count: number): Float64Array =>
  Float64Array.from({ length: count }, (_, i) =>
    i === 0 ? low : i === count - 1 ? high : low * (high / low) ** (i / (count - 1)),
  );

export async function finish(walk: Walk, steps: number, pause: Pause, after?: (t: number) => void): Promise<void> {
  for (let t = 1; t <= steps; t += 1) {
    walk.look(t, null);
    walk.step(t);
    after?.(t);
    if (t % 8 === 0) await pause();
  }
}

/** f after the last step for every lr and every rho (or eps): rows of the second, columns of lr. */
export async function sweep(state: State, setting: RunSetting, name: "rho" | "eps", pause: Pause): Promise<Heat> {
  const cells = tables.limits.cells;
  checkExperiment(state, setting);
  if (setting.optimizer !== "rmsprop") throw new InputError("The map varies the hyperparameters of an RMSprop.");
  const lr = spread(1e-4, 1, cells);
  // rho is even in the logarithm of 1 / (1 - rho): 0.9 and 0.99 are as far apart as 0.99 and 0.999.
  const other = name === "rho" ? spread(1, 1e-3, cells).map((fresh) => 1 - fresh) : spread(1e-12, 1, cells);
  const rule = ruleOf(setting);
  const same = (value: unknown) => new Float64Array(cells).fill(Number(value));
  const grid = { lr, rho: name === "rho" ? other : same(rule.rho), eps: name === "eps" ? other : same(rule.eps) };
  const found = await final(state, setting, cells * cells, grid, pause);
  // The kernel's cells go column by column.
  return { lr, other, f: found.map((_, i) => found[(i % cells) * cells + Math.floor(i / cells)]!) };
}

/** f after the last step for every learning rate, with any optimizer. */
export function rates(state: State, setting: RunSetting, lr: Float64Array, pause: Pause): Promise<Float64Array> {
  checkExperiment(state, setting);
  const rule = setting.optimizer === "rmsprop" ? ruleOf(setting) : null;
  const one = (value: unknown) => Float64Array.of(Number(value));
  return final(state, setting, lr.length, { lr, rho: one(rule?.rho), eps: one(rule?.eps) }, pause);
}

async function final(
  state: State,
  setting: RunSetting,
  count: number,
  grid: { lr: Float64Array; rho: Float64Array; eps: Float64Array },
  pause: Pause,
): Promise<Float64Array> {
  const f = functionOf(state.text);
  const starts = Float64Array.from({ length: 2 * count }, (_, i) => state.start[i < count ? 0 : 1]);
  const walk = new Walk(f, setting, draw(state.noise, state.steps), starts, grid);
  const value = new Float64Array(count);
  await finish(walk, state.steps, pause);
  walk.look(1, value);
  return value;
}
