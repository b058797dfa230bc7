// Who looks how: a colour on the dark stage, a colour on the page, and a shape, so that colour is never alone.

import { app } from "./app";
import { flat } from "./dom";

const OWN: Record<string, [string, string]> = {
  rmsprop: ["#3ddc84", "#0b8a4f"],
  gradient_descent: ["#4cc9f0", "#067a9e"],
  momentum: ["#ff6ac1", "#bb2678"],
  nesterov: ["#ffa26b", "#b9541a"],
  adagrad: ["#ffffff", "#6b7280"],
  adadelta: ["#c3b5fd", "#7353d9"],
  adam: ["#6c9dff", "#2b5fd9"],
};
const MORE: [string, string][] = [
  ["#f5c542", "#946c00"],
  ["#ff8a73", "#c0432b"],
  ["#c3b5fd", "#7353d9"],
  ["#5fe3d3", "#0b7d72"],
  ["#e3e36b", "#77770a"],
  ["#f7a8d8", "#a83c86"],
  ["#b7c4d6", "#56657a"],
];
const SHAPES = ["circle", "square", "triangle", "diamond", "cross", "down", "star", "bar"] as const;
export type Shape = (typeof SHAPES)[number];

export const dark = (): boolean => document.documentElement.dataset.theme === "dark";

/** The colour of a run on the stage (always dark) or on the page (as the theme says). */
export function colourOf(index: number, where: "stage" | "page" = "page"): string {
  const runs = app.state.runs;
  const run = runs[index];
  if (!run) return "#888888";
  const before = runs.slice(0, index);
  const repeated = before.filter((each, i) => before.slice(0, i).some((other) => other.optimizer === each.optimizer));
  const pair = before.some((each) => each.optimizer === run.optimizer)
    ? MORE[repeated.length % MORE.length]!
    : (OWN[run.optimizer] ?? MORE[0]!);
  return pair[where === "stage" || dark() ? 0 : 1];
}

export const shapeOf = (index: number): Shape => SHAPES[index % SHAPES.length]!;

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
    case "circle":
      context.beginPath();
      context.arc(x, y, r, 0, 2 * Math.PI);
      break;
    case "square":
      corners([
        [-0.88, -0.88],
        [0.88, -0.88],
        [0.88, 0.88],
        [-0.88, 0.88],
      ]);
      break;
    case "triangle":
      corners([
        [0, -1.15],
        [1.05, 0.8],
        [-1.05, 0.8],
      ]);
      break;
    case "down":
      corners([
        [0, 1.15],
        [1.05, -0.8],
        [-1.05, -0.8],
      ]);
      break;
    case "diamond":
      corners([
        [0, -1.25],
        [1.1, 0],
        [0, 1.25],
        [-1.1, 0],
      ]);
      break;
    case "cross":
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
    case "star":
      corners(
        Array.from({ length: 10 }, (_, i) => {
          const radius = i % 2 ? 0.55 : 1.25;
          return [radius * Math.sin((i * Math.PI) / 5), -radius * Math.cos((i * Math.PI) / 5)];
        }),
      );
      break;
    case "bar":
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
  context.fillStyle = colourOf(index);
  context.fill();
  return canvas;
}
