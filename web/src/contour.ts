// The map: heights as colors and lines, paths, balls with their squares. One function draws every frame, on any canvas.
import { app, at, nameOf } from "./app";
import { clamp, fit, flat, h, perFrame, show } from "./dom";
import { color } from "./height";
import { colorOf, shapeOf, trace } from "./look";
import { type Frame, fromPixels, isotropic, toPixels } from "./plane";
import { drawAtBall, squaresOf } from "./squares";
import type { Run } from "./types";

let base: { key: unknown; canvas: HTMLCanvasElement } | null = null;

function ground(frame: Frame): HTMLCanvasElement | null {
  const { surface, height } = app;
  if (!surface || !height) return null;
  const key = [surface, frame.width, frame.height, frame.ratio];
  if (base && (base.key as unknown[]).every((part, i) => part === key[i])) return base.canvas;
  const side = surface.cells + 1;
  const small = document.createElement("canvas");
  small.width = small.height = side;
  const pixels = new ImageData(side, side);
  const units = Float64Array.from(surface.f, (value) => height.unit(value));
  for (let row = 0; row < side; row += 1) {
    for (let column = 0; column < side; column += 1) {
      const unit = units[row * side + column]!;
      if (Number.isNaN(unit)) continue;
      const [r, g, b] = color(unit);
      pixels.data.set([r, g, b, 255], 4 * ((side - 1 - row) * side + column));
    }
  }
  flat(small).putImageData(pixels, 0, 0);
  const canvas = document.createElement("canvas");
  canvas.width = Math.round(frame.width * frame.ratio);
  canvas.height = Math.round(frame.height * frame.ratio);
  const context = flat(canvas);
  context.scale(frame.ratio, frame.ratio);
  context.imageSmoothingQuality = "high";
  // The outermost grid points lie on the rim: half a pixel of the small picture stays outside.
  context.drawImage(small, 0.5, 0.5, side - 1, side - 1, 0, 0, frame.width, frame.height);
  lines(context, units, side, frame);
  base = { key, canvas };
  return canvas;
}

const LEVELS = 16;

export const levelOf = (k: number): number => (k / (LEVELS + 0.5)) ** 1.25;

/**
 * Level lines by marching squares: for every level pairs of points in grid units, x0 y0 x1 y1 and so on.
 * A saddle cell is drawn as two separate corners.
 */
export function levelLines(units: Float64Array, side: number): number[][] {
  return Array.from({ length: LEVELS }, (_, k) => {
    const level = levelOf(k + 1);
    const found: number[] = [];
    for (let row = 0; row + 1 < side; row += 1) {
      for (let column = 0; column + 1 < side; column += 1) {
        const i = row * side + column;
        const corner = [units[i]!, units[i + 1]!, units[i + side + 1]!, units[i + side]!];
        const cuts: number[] = [];
        for (let edge = 0; edge < 4; edge += 1) {
          const a = corner[edge]!;
          const b = corner[(edge + 1) % 4]!;
          if (Number.isNaN(a + b) || a < level === b < level) continue;
          const part = (level - a) / (b - a);
          const x = edge === 0 ? part : edge === 1 ? 1 : edge === 2 ? 1 - part : 0;
          const y = edge === 0 ? 0 : edge === 1 ? part : edge === 2 ? 1 : 1 - part;
          cuts.push(column + x, row + y);
        }
        found.push(...cuts.slice(0, cuts.length - (cuts.length % 4)));
      }
    }
    return found;
  });
}

function lines(context: CanvasRenderingContext2D, units: Float64Array, side: number, frame: Frame): void {
  const dx = frame.width / (side - 1);
  const dy = frame.height / (side - 1);
  for (const [k, line] of levelLines(units, side).entries()) {
    context.beginPath();
    for (let i = 0; i < line.length; i += 4) {
      context.moveTo(line[i]! * dx, frame.height - line[i + 1]! * dy);
      context.lineTo(line[i + 2]! * dx, frame.height - line[i + 3]! * dy);
    }
    context.strokeStyle = k % 4 === 3 ? "rgba(214,232,240,.30)" : "rgba(214,232,240,.15)";
    context.lineWidth = 1;
    context.stroke();
  }
}

function pathTo(context: CanvasRenderingContext2D, run: Run, from: number, to: number, frame: Frame): void {
  context.beginPath();
  for (let t = Math.floor(from); t <= Math.min(Math.floor(to), run.steps); t += 1) {
    const [x, y] = toPixels(run.x[2 * t]!, run.x[2 * t + 1]!, frame);
    // Far outside nothing is seen, and a canvas does not like huge numbers.
    if (!(Math.abs(x) < 1e5 && Math.abs(y) < 1e5)) break;
    if (t === Math.floor(from)) context.moveTo(x, y);
    else context.lineTo(x, y);
  }
  if (to < run.steps && to % 1 > 0) context.lineTo(...toPixels(...at(run, to), frame));
  context.stroke();
}

/** Draw one frame: everything the map shows at a time. */
export function drawContour(context: CanvasRenderingContext2D, outer: Frame, time: number, extras = true): void {
  context.fillStyle = "#0a1020";
  context.fillRect(0, 0, outer.width, outer.height);
  const { left, top, width, height } = isotropic(outer.width, outer.height);
  const frame = { width, height, ratio: outer.ratio };
  const picture = ground(frame);
  context.save();
  context.translate(left, top);
  if (picture) context.drawImage(picture, 0, 0, width, height);
  context.beginPath();
  context.rect(0, 0, width, height);
  context.clip();
  context.lineJoin = context.lineCap = "round";
  drawMinima(context, frame);
  const runs = app.result?.runs ?? [];
  for (const [i, run] of runs.entries()) {
    const tint = colorOf(i, "stage");
    context.strokeStyle = tint;
    context.globalAlpha = 0.22;
    context.lineWidth = 1.2;
    pathTo(context, run, 0, run.steps, frame);
    context.globalAlpha = 0.95;
    context.lineWidth = 2;
    pathTo(context, run, 0, time, frame);
    dots(context, run, time, frame, tint);
    context.globalAlpha = 1;
  }
  const labels: [number, number][] = [];
  for (const [i, run] of runs.entries()) {
    const tint = colorOf(i, "stage");
    const [x, y] = toPixels(...at(run, time), frame);
    const inside = x >= 0 && y >= 0 && x <= width && y <= height;
    if (inside) {
      const squares = app.squares && extras ? squaresOf(run, time) : null;
      if (squares) drawAtBall(context, squares, x, y, tint);
      ball(context, i, x, y, 6, tint);
    }
    if (extras && app.hover !== null) {
      const [hx, hy] = toPixels(...at(run, app.hover), frame);
      trace(context, shapeOf(i), hx, hy, 6);
      context.strokeStyle = tint;
      context.lineWidth = 1.5;
      context.stroke();
    }
    if (run.exit !== null && time >= run.exit) leaving(context, i, run, frame, labels);
  }
  startMark(context, frame);
  scaleMarks(context, frame);
  context.restore();
}

/** Coordinates along the lower and the left rim. */
function scaleMarks(context: CanvasRenderingContext2D, frame: Frame): void {
  const domain = app.surface?.domain ?? app.state.domain;
  context.fillStyle = "rgba(223,231,241,.62)";
  context.font = "11px 'IBM Plex Sans', sans-serif";
  for (const axis of [0, 1] as const) {
    const [low, high] = domain[axis];
    const rough = (high - low) / (axis ? frame.height / 42 : frame.width / 56);
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].map((digit) => digit * power).find((each) => each >= rough) ?? power * 10;
    for (let k = Math.ceil(low / step); k * step <= high; k += 1) {
      const [x, y] = toPixels(axis ? low : k * step, axis ? k * step : low, frame);
      const text = show(k * step, 3);
      const wide = context.measureText(text).width;
      if (axis === 0 && x > 44 && x < frame.width - 30) {
        context.fillText(text, x - wide / 2, frame.height - 8);
        context.fillRect(x - 0.5, frame.height - 4, 1, 4);
      } else if (axis === 1 && y > 16 && y < frame.height - 24) {
        context.fillText(text, 8, y + 4);
        context.fillRect(0, y - 0.5, 4, 1);
      }
    }
  }
}

function dots(context: CanvasRenderingContext2D, run: Run, time: number, frame: Frame, tint: string): void {
  if (run.steps > 120) return;
  context.fillStyle = tint;
  for (let t = 1; t <= Math.min(time, run.steps); t += 1) {
    const [x, y] = toPixels(run.x[2 * t]!, run.x[2 * t + 1]!, frame);
    context.beginPath();
    context.arc(x, y, 1.8, 0, 7);
    context.fill();
  }
}

export function ball(context: CanvasRenderingContext2D, index: number, x: number, y: number, r: number, tint: string) {
  trace(context, shapeOf(index), x, y, r);
  context.fillStyle = tint;
  context.strokeStyle = "#0a1020";
  context.lineWidth = 1.6;
  context.fill();
  context.stroke();
}

function drawMinima(context: CanvasRenderingContext2D, frame: Frame): void {
  context.strokeStyle = "rgba(255,255,255,.75)";
  context.lineWidth = 1.2;
  for (const [x, y] of app.scene?.minima ?? []) {
    const [px, py] = toPixels(x, y, frame);
    context.beginPath();
    context.moveTo(px - 5, py);
    context.lineTo(px + 5, py);
    context.moveTo(px, py - 5);
    context.lineTo(px, py + 5);
    context.stroke();
  }
}

function startMark(context: CanvasRenderingContext2D, frame: Frame): void {
  const [x, y] = toPixels(...app.state.start, frame);
  context.beginPath();
  context.arc(x, y, 10, 0, 7);
  context.strokeStyle = "rgba(255,255,255,.6)";
  context.setLineDash([2, 3]);
  context.lineWidth = 1.2;
  context.stroke();
  context.setLineDash([]);
}

/** An arrow at the rim where a run left, with its name and step, instead of an empty picture. */
function leaving(
  context: CanvasRenderingContext2D,
  i: number,
  run: Run,
  frame: Frame,
  labels: [number, number][],
): void {
  const exit = run.exit!;
  const before = Math.max(0, exit - 1);
  const [x0, y0] = toPixels(run.x[2 * before]!, run.x[2 * before + 1]!, frame);
  let [x1, y1] = toPixels(run.x[2 * exit]!, run.x[2 * exit + 1]!, frame);
  if (!Number.isFinite(x1)) x1 = x0;
  if (!Number.isFinite(y1)) y1 = y0;
  const angle = Math.atan2(y1 - y0, x1 - x0);
  const room = 12;
  // Where the segment meets the rim.
  let part = 1;
  if (x1 > frame.width - room) part = Math.min(part, (frame.width - room - x0) / (x1 - x0));
  if (x1 < room) part = Math.min(part, (room - x0) / (x1 - x0));
  if (y1 > frame.height - room) part = Math.min(part, (frame.height - room - y0) / (y1 - y0));
  if (y1 < room) part = Math.min(part, (room - y0) / (y1 - y0));
  part = Math.max(0, part);
  const x = Math.min(frame.width - room, Math.max(room, x0 + part * (x1 - x0)));
  const y = Math.min(frame.height - room, Math.max(room, y0 + part * (y1 - y0)));
  context.save();
  context.translate(x, y);
  context.rotate(angle);
  context.beginPath();
  context.moveTo(9, 0);
  context.lineTo(-5, -6);
  context.lineTo(-5, 6);
  context.closePath();
  context.fillStyle = colorOf(i, "stage");
  context.fill();
  context.restore();
  context.font = "500 12px 'IBM Plex Sans', sans-serif";
  const text = `${nameOf(i)} left at step ${exit}`;
  const wide = context.measureText(text).width;
  const tx = Math.min(frame.width - wide - 10, Math.max(10, x - wide / 2));
  let ty = y < frame.height / 2 ? y + 26 : y - 18;
  while (labels.some(([lx, ly]) => Math.abs(ly - ty) < 16 && Math.abs(lx - tx) < 220))
    ty += y < frame.height / 2 ? 17 : -17;
  labels.push([tx, ty]);
  context.fillStyle = "rgba(10,16,32,.72)";
  context.fillRect(tx - 5, ty - 12, wide + 10, 17);
  context.fillStyle = colorOf(i, "stage");
  context.fillText(text, tx, ty);
}

/** The map as a part of the page: click or drag to move the start, wheel or keys to zoom. */
export function contour(): HTMLElement {
  const canvas = h("canvas", {
    id: "contour",
    tabindex: "0",
    role: "img",
    "aria-label": "Contour map with the paths. Arrow keys move the start, plus and minus zoom.",
  });
  const readout = h("output", { class: "readout", "aria-hidden": "true" });
  const element = h(
    "figure",
    { class: "view" },
    canvas,
    readout,
    h(
      "div",
      { class: "view-tools" },
      h("button", { type: "button", class: "icon", "aria-label": "Zoom in", onclick: () => zoom(0.7) }, "+"),
      h("button", { type: "button", class: "icon", "aria-label": "Zoom out", onclick: () => zoom(1 / 0.7) }, "−"),
      h("button", { type: "button", class: "icon", "aria-label": "Fit the paths", onclick: fitPaths }, "Fit"),
    ),
  );
  const paint = perFrame(() => {
    if (!canvas.clientWidth) return;
    const frame = fit(canvas);
    const context = flat(canvas);
    context.setTransform(frame.ratio, 0, 0, frame.ratio, 0, 0);
    drawContour(context, frame, app.time);
  });
  const place = (event: PointerEvent): [number, number] => {
    const box = canvas.getBoundingClientRect();
    const { left, top, width, height } = isotropic(box.width, box.height);
    const px = clamp(event.clientX - box.left - left, 0, width);
    const py = clamp(event.clientY - box.top - top, 0, height);
    return fromPixels(px, py, { width, height, ratio: 1 });
  };
  let dragging = false;
  canvas.addEventListener("pointerdown", (event) => {
    dragging = true;
    canvas.setPointerCapture(event.pointerId);
    moveStart(...place(event));
  });
  canvas.addEventListener("pointermove", (event) => {
    const [x, y] = place(event);
    readout.textContent = `x ${show(x, 3)}  y ${show(y, 3)}`;
    if (dragging) moveStart(x, y);
  });
  canvas.addEventListener("pointerleave", () => {
    readout.textContent = "";
  });
  for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, () => (dragging = false));
  canvas.addEventListener(
    "wheel",
    (event) => {
      if (!event.ctrlKey && document.activeElement !== canvas) return;
      event.preventDefault();
      zoom(event.deltaY > 0 ? 1.15 : 1 / 1.15);
    },
    { passive: false },
  );
  canvas.addEventListener("keydown", (event) => {
    const [[left, right], [bottom, top]] = app.state.domain;
    const step = (event.shiftKey ? 0.1 : 0.01) * (event.altKey ? 0.1 : 1);
    const move: Record<string, [number, number]> = {
      ArrowLeft: [-1, 0],
      ArrowRight: [1, 0],
      ArrowUp: [0, 1],
      ArrowDown: [0, -1],
    };
    const to = move[event.key];
    if (to)
      moveStart(app.state.start[0] + to[0] * step * (right - left), app.state.start[1] + to[1] * step * (top - bottom));
    else if (event.key === "+" || event.key === "=") zoom(0.7);
    else if (event.key === "-") zoom(1 / 0.7);
    else return;
    event.preventDefault();
    event.stopPropagation();
  });
  new ResizeObserver(paint).observe(canvas);
  app.on(["time", "surface", "result", "hover", "theme", "state"], paint);
  return element;
}

function moveStart(x: number, y: number): void {
  if (!app.state) return;
  app.change({ start: [Number(x.toPrecision(4)), Number(y.toPrecision(4))] });
}

function zoom(factor: number): void {
  const scaled = app.state.domain.map(([low, high]) => {
    const middle = (low + high) / 2;
    const half = ((high - low) / 2) * factor;
    return [Number((middle - half).toPrecision(6)), Number((middle + half).toPrecision(6))];
  });
  if (scaled.every(([low, high]) => high! - low! > 1e-6 && Math.abs(low!) < 1e5 && Math.abs(high!) < 1e5)) {
    app.change({ domain: scaled as [[number, number], [number, number]] });
  }
}

/** Choose the picture so that every path is in it, as far as the paths are finite. */
function fitPaths(): void {
  const runs = app.result?.runs ?? [];
  const range = (axis: 0 | 1): [number, number] => {
    const values = runs.flatMap((run) => [...run.x.filter((value, i) => i % 2 === axis && Math.abs(value) < 1e4)]);
    const low = Math.min(...values);
    const high = Math.max(...values);
    const margin = 0.08 * (high - low) || 1;
    return [Number((low - margin).toPrecision(5)), Number((high + margin).toPrecision(5))];
  };
  if (runs.length) app.change({ domain: [range(0), range(1)] });
}
