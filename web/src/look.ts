// Who looks how: a color on the dark stage, a color on the page, and a shape, so that color is never alone.

import { app } from "./app";
import { flat } from "./dom";
import { optimizerOf } from "./optimizers";

const MORE: [string, string][] = [
  ["#f5c542", "#946c00"],
  ["#ff8a73", "#c0432b"],
  ["#c3b5fd", "#7353d9"],
  ["#5fe3d3", "#0b7d72"],
  ["#e3e36b", "#77770a"],
  ["#f7a8d8", "#a83c86"],
  ["#b7c4d6", "#56657a"],
];
const SHAPES = ["o", "s", "^", "D", "P", "v", "X", "p", "*", "_"] as const;
export type Shape = (typeof SHAPES)[number];

export const dark = (): boolean => document.documentElement.dataset.theme === "dark";

/** The color of a run on the stage (always dark) or on the page (as the theme says). */
export function colorOf(index: number, where: "stage" | "page" = "page"): string {
  const runs = app.state.runs;
  const run = runs[index];
  if (!run) return "#888888";
  const before = runs.slice(0, index);
  const repeated = before.filter((each, i) => before.slice(0, i).some((other) => other.optimizer === each.optimizer));
  const own = before.some((each) => each.optimizer === run.optimizer) ? undefined : optimizerOf(run.optimizer);
  const [onDark, onLight] = own ? [own.dark, own.light] : MORE[repeated.length % MORE.length]!;
  return where === "stage" || dark() ? onDark : onLight;
}

/** The optimizer's own marker for its first run; each later run has the next marker that is free. */
export function shapeOf(index: number): Shape {
  const runs = app.state.runs;
  const own = (i: number) => optimizerOf(runs[i]?.optimizer ?? "")?.marker as Shape;
  const isFirst = (i: number) => runs.findIndex((run) => run.optimizer === runs[i]?.optimizer) === i;
  if (isFirst(index)) return own(index);
  const firsts = runs.flatMap((_, i) => (isFirst(i) ? [own(i)] : []));
  const free = SHAPES.filter((shape) => !firsts.includes(shape));
  const later = runs.slice(0, index).filter((_, i) => !isFirst(i)).length;
  return free[later % free.length]!;
}

/** Trace a marker of radius r around (x, y) as a path. */
export function trace(context: CanvasRenderingContext2D, shape: Shape, x: number, y: number, r: number): void {
  const corners = (points: number[][]) => {
    context.beginPath();
    for (const [i, [dx, dy]] of points.entries()) {
      if (i) context.lineTo(x + dx! * r, y + dy! * r);
      else context.moveTo(x + dx! * r, y + dy! * r);
    }
    context.closePath();
  };
  switch (shape) {
    case "o":
      context.beginPath();
      context.arc(x, y, r, 0, 2 * Math.PI);
      break;
    case "s":
      corners([
        [-0.88, -0.88],
        [0.88, -0.88],
        [0.88, 0.88],
        [-0.88, 0.88],
      ]);
      break;
    case "^":
      corners([
        [0, -1.15],
        [1.05, 0.8],
        [-1.05, 0.8],
      ]);
      break;
    case "v":
      corners([
        [0, 1.15],
        [1.05, -0.8],
        [-1.05, -0.8],
      ]);
      break;
    case "D":
      corners([
        [0, -1.25],
        [1.1, 0],
        [0, 1.25],
        [-1.1, 0],
      ]);
      break;
    case "P":
      corners([
        [-0.4, -1.1],
        [0.4, -1.1],
        [0.4, -0.4],
        [1.1, -0.4],
        [1.1, 0.4],
        [0.4, 0.4],
        [0.4, 1.1],
        [-0.4, 1.1],
        [-0.4, 0.4],
        [-1.1, 0.4],
        [-1.1, -0.4],
        [-0.4, -0.4],
      ]);
      break;
    case "X":
      corners(
        Array.from({ length: 12 }, (_, i) => {
          const [radius, turn] = i % 3 ? [1.17, i % 3 === 1 ? 0.443 : 1.128] : [0.57, 0];
          const angle = Math.floor(i / 3) * (Math.PI / 2) + turn;
          return [radius * Math.sin(angle), -radius * Math.cos(angle)];
        }),
      );
      break;
    case "p":
      corners(
        Array.from({ length: 5 }, (_, i) => [
          1.15 * Math.sin((i * 2 * Math.PI) / 5),
          -1.15 * Math.cos((i * 2 * Math.PI) / 5),
        ]),
      );
      break;
    case "*":
      corners(
        Array.from({ length: 10 }, (_, i) => {
          const radius = i % 2 ? 0.55 : 1.25;
          return [radius * Math.sin((i * Math.PI) / 5), -radius * Math.cos((i * Math.PI) / 5)];
        }),
      );
      break;
    case "_":
      corners([
        [-1.2, -0.6],
        [1.2, -0.6],
        [1.2, 0.6],
        [-1.2, 0.6],
      ]);
      break;
  }
}

/** A small picture of a run's marker, for lists. */
export function swatch(index: number): HTMLCanvasElement {
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = 28;
  canvas.className = "swatch";
  canvas.setAttribute("aria-hidden", "true");
  const context = flat(canvas);
  context.scale(2, 2);
  trace(context, shapeOf(index), 7, 7, 4.6);
  context.fillStyle = colorOf(index);
  context.fill();
  return canvas;
}
