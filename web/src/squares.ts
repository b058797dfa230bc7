// The accumulator as squares: the area is the mean (RMSprop) or the sum (AdaGrad) of squared gradients, per axis.
import { app, nameOf } from "./app";
import { clamp, fill, fit, flat, h, show } from "./dom";
import { colorOf } from "./look";
import type { Run } from "./types";

const LARGEST = 34;
/** A square on the map is at most this long: AdaGrad's sum must not hide the paths. */
const LIMIT = 80;
const DECADES = 8;
export const scale = { logarithmic: false };

let reference = { result: null as unknown, value: 1 };

/** What gets a square of side LARGEST: the largest statistic of any RMSprop, or more, so that no square is above LIMIT. */
function largest(): number {
  if (reference.result === app.result) return reference.value;
  const runs = (app.result?.runs ?? []).filter((run) => run.accumulates && run.broken === null);
  const own = runs.filter((run) => run.optimizer === "rmsprop");
  const most = (values: Float64Array[]) => {
    let found = 0;
    for (const array of values) for (const v of array) if (v > found && Number.isFinite(v)) found = v;
    return found;
  };
  const all = Math.max(most(runs.map((run) => run.statistic)), most(runs.map((run) => run.grad.map((g) => g * g))));
  const value = Math.max(most((own.length ? own : runs).map((run) => run.statistic)), all * (LARGEST / LIMIT) ** 2);
  reference = { result: app.result, value: value || 1 };
  return reference.value;
}

/** The side in pixels of a square that stands for a squared gradient. */
export function side(value: number): number {
  if (!(value > 0) || !Number.isFinite(value)) return 0;
  if (!scale.logarithmic) return LARGEST * Math.sqrt(value / largest());
  return LARGEST * clamp(1 + Math.log10(value / largest()) / DECADES, 0, 2);
}

export interface Squares {
  statistic: [number, number];
  grad: [number, number];
  sides: [number, number];
  outlines: [number, number];
}

/** The squares of a run at a time: those of the last step done, or null before the first and without a statistic. */
export function squaresOf(run: Run, time: number): Squares | null {
  const row = Math.min(run.steps, Math.floor(time + 1e-9)) - 1;
  if (row < 0 || Number.isNaN(run.statistic[2 * row])) return null;
  const pair = (from: Float64Array): [number, number] => [from[2 * row]!, from[2 * row + 1]!];
  const statistic = pair(run.statistic);
  const grad = pair(run.grad);
  return {
    statistic,
    grad,
    sides: [side(statistic[0]), side(statistic[1])],
    outlines: [side(grad[0] ** 2), side(grad[1] ** 2)],
  };
}

/** Draw both squares at a ball: x to the side the gradient points away from, y above or below. */
export function drawAtBall(context: CanvasRenderingContext2D, squares: Squares, x: number, y: number, tint: string) {
  for (const axis of [0, 1] as const) {
    const sign = Math.sign(squares.grad[axis]) || 1;
    for (const [length, isOutline] of [
      [squares.sides[axis], false],
      [squares.outlines[axis], true],
    ] as const) {
      if (length < 0.5) continue;
      // Downhill along the axis; on the screen y grows downwards.
      const left = axis === 0 ? (sign > 0 ? x - 9 - length : x + 9) : x - length / 2;
      const top = axis === 0 ? y - length / 2 : sign > 0 ? y + 9 : y - 9 - length;
      // A large square is AdaGrad's whole story, but must not hide the paths.
      context.globalAlpha = isOutline ? 0.9 : length > 60 ? 0.1 : 0.34;
      context.lineWidth = 1;
      context.strokeStyle = context.fillStyle = tint;
      if (isOutline) context.strokeRect(left, top, length, length);
      else context.fillRect(left, top, length, length);
      if (!isOutline && length > 60) {
        context.globalAlpha = 0.35;
        context.strokeRect(left, top, length, length);
      }
    }
  }
  context.globalAlpha = 1;
}

/** The panel: every run's squares side by side, with numbers. */
export function panel(): HTMLElement {
  const body = h("div", { class: "squares-body" });
  const log = h("input", { type: "checkbox", id: "squares-log" });
  log.addEventListener("change", () => {
    scale.logarithmic = log.checked;
    app.emit("time");
  });
  const element = h(
    "figure",
    { class: "chart squares", "aria-label": "Accumulators as squares" },
    h(
      "figcaption",
      {},
      h("span", { class: "chart-title" }, "Accumulator squares"),
      h("label", { class: "tiny", for: "squares-log" }, log, "log"),
    ),
    body,
  );
  let cells: { canvas: HTMLCanvasElement; text: HTMLElement }[] = [];
  const build = () => {
    const runs = app.result?.runs ?? [];
    const shown = runs.map((run, i) => [run, i] as const).filter(([run]) => run.accumulates);
    cells = [];
    if (!shown.length) {
      fill(body, h("p", { class: "hint" }, "None of these optimizers has an accumulator of squared gradients."));
      return;
    }
    fill(
      body,
      ...shown.map(([run, i]) => {
        const canvas = h("canvas", { "aria-hidden": "true" });
        const text = h("div", { class: "squares-text" });
        cells[i] = { canvas, text };
        const kind = run.optimizer === "adagrad" ? "sum" : "mean";
        return h("div", { class: "squares-run" }, h("b", {}, nameOf(i)), canvas, text, h("i", {}, `${kind} of g²`));
      }),
    );
  };
  const draw = () => {
    if (!element.offsetParent) return;
    for (const [i, run] of (app.result?.runs ?? []).entries()) {
      const cell = cells[i];
      if (!cell) continue;
      // The text first: its lines leave the canvas its height.
      const squares = squaresOf(run, app.time);
      cell.text.textContent = squares ? `x ${show(squares.statistic[0], 3)}\ny ${show(squares.statistic[1], 3)}` : "–";
      const { width, height, ratio } = fit(cell.canvas);
      const context = flat(cell.canvas);
      context.setTransform(ratio, 0, 0, ratio, 0, 0);
      context.clearRect(0, 0, width, height);
      if (!squares) continue;
      const tint = colorOf(i);
      for (const axis of [0, 1] as const) {
        const middle = width * (axis ? 0.75 : 0.25);
        // One scale for all runs, in which the largest square has room.
        const part = Math.min(1, (Math.min(width / 2, height) - 3) / LIMIT);
        const box = (length: number, outline: boolean) => {
          const shown = part * length;
          context.globalAlpha = outline ? 1 : 0.4;
          context.fillStyle = context.strokeStyle = tint;
          if (outline) context.strokeRect(middle - shown / 2, height / 2 - shown / 2, shown, shown);
          else context.fillRect(middle - shown / 2, height / 2 - shown / 2, shown, shown);
        };
        box(squares.sides[axis], false);
        box(squares.outlines[axis], true);
      }
    }
  };
  app.on(["result", "theme"], () => {
    build();
    draw();
  });
  app.on(["time", "tab"], draw);
  new ResizeObserver(draw).observe(body);
  return element;
}
