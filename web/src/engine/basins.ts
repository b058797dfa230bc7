// Where runs from a grid of starts end: at which minimum, or at none.
import tables from "tables:data";
import type { Basins, Pair, RunSetting, State } from "../types";
import type { Expression } from "./dual";
import { checkExperiment, draw, FAR, finish, functionOf, type Pause, sceneOf, Walk } from "./experiment";

/** Two ends belong to one basin if their distance is below this part of the picture's diagonal. */
const NEAR = 0.03;
const MOST_BASINS = 12;
const [MOVING, RESTING, DIVERGED] = [-1, -2, -3];
const CIRCLE = Array.from({ length: 16 }, (_, i) => [Math.cos((i * Math.PI) / 8), Math.sin((i * Math.PI) / 8)] as Pair);

/** For a grid of starts, the number of the minimum where the run ends, or why it ends at none. */
export async function basins(state: State, setting: RunSetting, pause: Pause): Promise<Basins> {
  const count = tables.limits.cells;
  checkExperiment(state, setting);
  const f = functionOf(state.text);
  const [[left, right], [bottom, top]] = state.domain;
  const total = count * count;
  // Centers of cells: no start lies on the edge.
  const starts = Float64Array.from({ length: 2 * total }, (_, i) =>
    i < total
      ? left + (right - left) * (((i % count) + 0.5) / count)
      : bottom + (top - bottom) * ((Math.floor((i - total) / count) + 0.5) / count),
  );
  const walk = new Walk(f, setting, draw(state.noise, state.steps), starts);
  // The means over the last two twentieths: a run that oscillates around a minimum has found it.
  const half = Math.max(1, Math.floor(state.steps / 20));
  const [before, center] = [new Float64Array(2 * total), new Float64Array(2 * total)];
  const add = (t: number) => {
    if (t <= state.steps - 2 * half) return;
    const sum = t <= state.steps - half ? before : center;
    for (let i = 0; i < total; i += 1) {
      sum[i]! += walk.x[i]! / half;
      sum[total + i]! += walk.y[i]! / half;
    }
  };
  add(0);
  await finish(walk, state.steps, pause, add);
  const [x, y] = [center.subarray(0, total), center.subarray(total)];
  const drift = x.map((u, i) => Math.hypot(u - before[i]!, y[i]! - before[total + i]!));
  const near = NEAR * Math.hypot(right - left, top - bottom);
  const minima = addMinima(f, sceneOf(f)?.minima ?? [], x, y, drift, near);
  const label = drift.map((length, i) => {
    if (!(Math.abs(x[i]!) < FAR && Math.abs(y[i]!) < FAR)) return DIVERGED;
    const distance = minima.map(([u, v]) => Math.hypot(x[i]! - u, y[i]! - v));
    const least = Math.min(...distance);
    if (least <= near && length <= near / 2) return distance.indexOf(least);
    return length <= 1e-6 * near ? RESTING : MOVING;
  });
  const share = label.filter((which) => which >= 0).length / total;
  return { count, label, minima: Float64Array.from(minima.flat()), share };
}

/** Add to the known minima those that at least 1 % of the runs have found, lowest first. */
function addMinima(
  f: Expression,
  known: Pair[],
  x: Float64Array,
  y: Float64Array,
  drift: Float64Array,
  near: number,
): Pair[] {
  const found = [...known];
  const value = new Float64Array(x.length);
  f.evaluate(x, y, x.length, value, null, null);
  const isNear = ([u, v]: Pair, i: number) => Math.hypot(x[i]! - u, y[i]! - v) <= near;
  const isUsable = (i: number) => drift[i]! <= near / 2 && Number.isFinite(value[i]!);
  let free = Array.from(value.keys()).filter((i) => isUsable(i) && !known.some((point) => isNear(point, i)));
  while (free.length && found.length < Math.max(MOST_BASINS, known.length)) {
    const lowest = free.reduce((best, i) => (value[i]! < value[best]! ? i : best));
    const end: Pair = [x[lowest]!, y[lowest]!];
    const members = free.filter((i) => isNear(end, i));
    const minimum = members.length >= Math.max(2, Math.floor(x.length / 100)) ? findMinimum(f, end, near) : null;
    if (minimum && found.every(([u, v]) => Math.hypot(u - minimum[0], v - minimum[1]) > near)) found.push(minimum);
    free = free.filter((i) => !isNear(end, i));
  }
  return found;
}

/**
 * The strict minimum within `near` of a point, or null. A pattern search walks down until all neighbors are higher;
 * it needs no second derivative, so it finds kinks too, and a slope or a valley leads it away.
 */
function findMinimum(f: Expression, end: Pair, near: number): Pair | null {
  const around = ([x, y]: Pair, radius: number) => {
    const value = new Float64Array(CIRCLE.length + 1);
    const points = [[0, 0] as Pair, ...CIRCLE];
    const along = (axis: 0 | 1) => Float64Array.from(points, (unit) => [x, y][axis]! + radius * unit[axis]);
    f.evaluate(along(0), along(1), points.length, value, null, null);
    return value;
  };
  let at = end;
  let radius = near / 4;
  for (let tries = 0; tries < 1000 && radius > 1e-7 * near; tries += 1) {
    const [here, ...values] = around(at, radius) as unknown as [number, ...number[]];
    const lowest = values.reduce((best, value, i) => (value < values[best]! ? i : best), 0);
    if (!(values[lowest]! < here)) {
      radius /= 2;
      continue;
    }
    at = [at[0] + radius * CIRCLE[lowest]![0], at[1] + radius * CIRCLE[lowest]![1]];
    if (Math.hypot(at[0] - end[0], at[1] - end[1]) > near) return null;
  }
  const [here, ...values] = around(at, near / 4) as unknown as [number, ...number[]];
  return radius <= 1e-7 * near && values.every((value) => value > here) ? at : null;
}
