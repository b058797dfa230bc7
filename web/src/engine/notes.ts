// Sentences about the runs, computed from their numbers, for the page and for a screen reader.
import type { Note, Run } from "../types";
import { startOf } from "./rule";
import { general } from "./words";

type Sentence = [step: number | null, text: string];

/** A few sentences about every run; `lowest` is the function's smallest value, if it is known. */
export const writeNotes = (runs: Run[], lowest: number | null): Note[] =>
  runs.flatMap((run, i) => describe(run, lowest).map(([step, text]) => ({ run: i, step, text })));

function describe(run: Run, lowest: number | null): Sentence[] {
  const { steps, x } = run;
  const found = describeFirstStep(run);
  if (run.broken !== null) {
    found.push([run.broken, `Diverged: the numbers stop being finite at step ${run.broken}.`]);
  }
  if (run.exit !== null) {
    const where = `(${format(x[2 * run.exit]!)}, ${format(x[2 * run.exit + 1]!)})`;
    found.push([run.exit, `Left the picture at step ${run.exit}, at ${where}, and did not return.`]);
  }
  if (run.broken !== null || run.exit !== null) return found;
  const tail = Math.max(10, Math.floor(steps / 5));
  return [...found, ...describeProgress(run, lowest), ...(steps >= 2 * tail ? describeEnd(run, tail) : [])];
}

function describeFirstStep({ rule, x, grad, lr, steps }: Run): Sentence[] {
  if (!rule || !steps) return [];
  const moved = [0, 1]
    .filter((axis) => grad[axis] !== 0)
    .map((axis) => Math.abs(x[2 + axis]! - x[axis]!))
    .filter(Number.isFinite);
  if (rule.centered || rule.bias_correction || rule.momentum || rule.weight_decay || !moved.length || rule.rho === 1) {
    return [];
  }
  const usual = lr / Math.sqrt(1 - Number(rule.rho));
  const start = startOf(rule);
  if (start === 0 && moved.every((length) => Math.abs(length - usual) <= 0.02 * usual)) {
    return [[1, `The first step is ${format(usual)} along each axis: lr / sqrt(1 - rho), for any gradient.`]];
  }
  if (start === 0) return [];
  const size = format(Math.max(...moved));
  return [[1, `The mean square starts at ${format(start)}, so the first step, ${size}, depends on the gradient.`]];
}

function describeProgress({ f }: Run, lowest: number | null): Sentence[] {
  if (!f.every(Number.isFinite)) return [];
  if (lowest === null) {
    const best = f.indexOf(Math.min(...f));
    return [[best, `Lowest value ${format(f[best]!)}, at step ${best}.`]];
  }
  const start = f[0]! - lowest;
  const end = f.at(-1)!;
  if (!(start > 0)) return [];
  const near = f.findIndex((value) => value - lowest <= 0.01 * start);
  if (near >= 0) return [[near, `99 % of the way to the minimum by step ${near}; ends at f = ${format(end)}.`]];
  const percent = Math.max(0, 100 * (1 - (end - lowest) / start)).toFixed(0);
  return [[null, `Ends at f = ${format(end)}: ${percent} % of the way to the minimum.`]];
}

function describeEnd({ x, rate, lr, optimizer, steps }: Run, tail: number): Sentence[] {
  const axis = (from: number, which: 0 | 1) =>
    Array.from({ length: steps + 1 - from }, (_, i) => x[2 * (from + i) + which]!);
  const range = (values: number[]) => Math.max(...values) - Math.min(...values);
  const length = (from: number, to: number) => Math.hypot(x[2 * to]! - x[2 * from]!, x[2 * to + 1]! - x[2 * from + 1]!);
  const ends = [axis(steps + 1 - tail, 0), axis(steps + 1 - tail, 1)];
  const center = ends.map((values) => values.reduce((sum, value) => sum + value, 0) / tail);
  const spread = Math.max(...ends.map(range)) / 2;
  let walked = 0;
  for (let t = steps - tail; t < steps; t += 1) walked += length(t, t + 1);
  const extent = Math.hypot(range(axis(0, 0)), range(axis(0, 1)));
  const where = `(${format(center[0]!)}, ${format(center[1]!)})`;
  const found: Sentence[] = [];
  if (extent > 0 && walked > 4 * length(steps - tail, steps) && spread > 1e-6 * extent && walked > 1e-4 * extent) {
    const text = `Oscillates around ${where} by about ${format(spread)} with lr ${format(lr)}: a smaller lr comes closer.`;
    found.push([steps - tail, text]);
  } else if (extent > 0 && walked <= 1e-3 * extent) {
    found.push([steps - tail, `Converges to ${where}.`]);
  } else {
    found.push([null, `Still moving at step ${steps}, by ${format(length(steps - 1, steps))} per step.`]);
  }
  if (optimizer === "adagrad" && rate.every(Number.isFinite)) {
    const [first, final] = [Math.max(rate[0]!, rate[1]!), Math.max(...rate.slice(-2))];
    if (final < 0.5 * first) {
      const rates = `from ${format(first)} to ${format(final)}`;
      found.push([null, `Its sum of squares only grows: the effective learning rate fell ${rates}.`]);
    }
  }
  return found;
}

const format = (value: number): string => (Math.abs(value) < 5e-13 ? "0" : general(value, 3));
