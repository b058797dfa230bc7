// Many runs at once: every pair of two numbers, and a lattice of starts.
import * as api from "./api";
import { app, nameOf } from "./app";
import { floor } from "./curves";
import { clamp, fill, fit, flat, h, perFrame, show } from "./dom";
import { rgb } from "./height";
import { isotropic } from "./plane";

const HEAT = ["#4be38f", "#27b88c", "#1e8b86", "#20607a", "#1f3d63", "#172343", "#0d1226"].map(rgb);
const LOST = rgb("#4a2233");
const NOWHERE = rgb("#1b2436");
const TINTS = [
  "#3ddc84",
  "#6c9dff",
  "#ff6ac1",
  "#f5c542",
  "#4cc9f0",
  "#ffa26b",
  "#c3b5fd",
  "#e3e36b",
  "#ff8a73",
  "#5fe3d3",
  "#f7a8d8",
  "#b7c4d6",
];
/** What the labels -1, -2 and -3 of the basins mean. */
const ENDS = ["still moving", "at rest, not at a minimum", "diverged"];
const MARGIN = { left: 58, bottom: 34, top: 8, right: 8 };

function heatColor(unit: number): [number, number, number] {
  const place = clamp(unit, 0, 1) * (HEAT.length - 1);
  const i = Math.min(HEAT.length - 2, Math.floor(place));
  const mix = (k: 0 | 1 | 2) => Math.round(HEAT[i]![k] + (HEAT[i + 1]![k] - HEAT[i]![k]) * (place - i));
  return [mix(0), mix(1), mix(2)];
}

/** The ends of the color scale: the best and the worst 3 % lie outside, so that one lucky cell does not flatten the rest. */
export function heatEnds(values: Float64Array): [number, number] {
  const sorted = values.filter(Number.isFinite).sort();
  const at = (part: number) => sorted[Math.floor(part * (sorted.length - 1))];
  return [at(0.03) ?? 0, at(0.97) ?? 1];
}

/** Paint square cells without seams: one pixel each, enlarged. Row 0 is the lowest. */
function paintCells(
  context: CanvasRenderingContext2D,
  side: number,
  box: [number, number, number, number],
  colorAt: (i: number) => [number, number, number],
): void {
  const small = document.createElement("canvas");
  small.width = small.height = side;
  const pixels = new ImageData(side, side);
  for (let i = 0; i < side * side; i += 1) {
    const at = (side - 1 - Math.floor(i / side)) * side + (i % side);
    pixels.data.set([...colorAt(i), 255], 4 * at);
  }
  flat(small).putImageData(pixels, 0, 0);
  context.imageSmoothingEnabled = false;
  context.drawImage(small, ...box);
}

/** A select of the RMSprop runs that keeps its choice. */
function runSelect(id: string, all: boolean): { select: HTMLSelectElement; refresh: () => void } {
  const select = h("select", { id, "aria-label": "Run" });
  const refresh = () => {
    const before = select.value;
    const fitting = app.state.runs
      .map((run, i) => [run, i] as const)
      .filter(([run]) => all || run.optimizer === "rmsprop");
    fill(select, ...fitting.map(([, i]) => h("option", { value: String(i) }, nameOf(i))));
    if (fitting.some(([, i]) => String(i) === before)) select.value = before;
  };
  return { select, refresh };
}

/** Compute when the panel is open and something changed; a new question ends the old one. */
function asker<T>(
  element: HTMLElement,
  ask: (signal: AbortSignal) => Promise<T>,
  done: (answer: T, ms: number) => void,
  failed: (why: string) => void,
) {
  let asked = "";
  let flight = new AbortController();
  return async (key: () => string) => {
    if (!element.offsetParent || key() === asked) return;
    asked = key();
    flight.abort();
    const mine = new AbortController();
    flight = mine;
    const began = performance.now();
    try {
      const answer = await ask(mine.signal);
      if (!mine.signal.aborted) done(answer, performance.now() - began);
    } catch (error) {
      if (!mine.signal.aborted) failed(error instanceof Error ? error.message : String(error));
    }
  };
}

export function heat(): HTMLElement {
  const { select, refresh } = runSelect("heat-run", false);
  const name = h(
    "select",
    { id: "heat-name", "aria-label": "Second hyperparameter" },
    h("option", { value: "rho" }, "lr and rho"),
    h("option", { value: "eps" }, "lr and eps"),
  );
  const canvas = h("canvas", {
    id: "heat",
    tabindex: "0",
    role: "img",
    "aria-label": "Loss after the last step for every pair. Arrow keys choose a cell, Enter loads it.",
  });
  const text = h("p", { class: "heat-text", role: "status" });
  const said = h("p", { class: "hint" });
  const element = h(
    "div",
    { class: "maps" },
    h("div", { class: "panel-bar" }, select, name, said),
    h("div", { class: "maps-body" }, canvas, h("div", { class: "maps-side" }, text, legend())),
  );
  let map: api.Heat | null = null;
  let cell: [number, number] | null = null;
  const side = () => map!.lr.length;
  const value = (column: number, row: number) => map!.f[row * side() + column]!;
  const draw = perFrame(() => {
    if (!element.offsetParent) return;
    const { width, height, ratio } = fit(canvas);
    const context = flat(canvas);
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, height);
    if (!map) return;
    const low = floor();
    const base = low.known ? low.value : Math.min(...map.f.filter(Number.isFinite));
    const gap = (v: number) => (Number.isFinite(v) ? Math.log10(Math.max(v - base, 1e-14)) : Number.NaN);
    const [from, to] = heatEnds(map.f.map(gap));
    const w = (width - MARGIN.left - MARGIN.right) / side();
    const t = (height - MARGIN.top - MARGIN.bottom) / side();
    paintCells(context, side(), [MARGIN.left, MARGIN.top, w * side(), t * side()], (i) => {
      const v = gap(map!.f[i]!);
      return Number.isNaN(v) ? LOST : heatColor((v - from) / (to - from || 1));
    });
    axes(context, width, height, map, name.value);
    const run = app.state.runs[Number(select.value)];
    if (run) {
      const other =
        name.value === "rho"
          ? Number(app.result?.runs[Number(select.value)]?.rule?.rho)
          : Number(app.result?.runs[Number(select.value)]?.rule?.eps);
      const x = MARGIN.left + (nearest(map.lr, run.lr) + 0.5) * w;
      const y = MARGIN.top + (side() - 0.5 - nearest(map.other, other)) * t;
      context.beginPath();
      context.arc(x, y, 6, 0, 7);
      context.lineWidth = 2;
      context.strokeStyle = "#ffffff";
      context.stroke();
    }
    if (cell) {
      context.strokeStyle = "#ffffff";
      context.lineWidth = 1.5;
      context.strokeRect(MARGIN.left + cell[0] * w - 1, MARGIN.top + (side() - 1 - cell[1]) * t - 1, w + 2, t + 2);
    }
  });
  const tell = () => {
    if (!map || !cell) return;
    const v = value(...cell);
    text.textContent = `lr ${show(map.lr[cell[0]], 3)}, ${name.value} ${show(map.other[cell[1]], 4)}: ${
      Number.isFinite(v) ? `f = ${show(v, 3)}` : "diverges"
    } after ${app.state.steps} steps. Click or Enter loads it.`;
  };
  const load = () => {
    if (!map || !cell) return;
    const i = Number(select.value);
    const [lr, other] = [map.lr[cell[0]]!, map.other[cell[1]]!];
    app.change({
      runs: app.state.runs.map((run, k) => (k === i ? { ...run, lr, own: { ...run.own, [name.value]: other } } : run)),
    });
  };
  const under = (event: PointerEvent): [number, number] | null => {
    if (!map) return null;
    const box = canvas.getBoundingClientRect();
    const u = (event.clientX - box.left - MARGIN.left) / (box.width - MARGIN.left - MARGIN.right);
    const v = 1 - (event.clientY - box.top - MARGIN.top) / (box.height - MARGIN.top - MARGIN.bottom);
    if (u < 0 || v < 0 || u >= 1 || v >= 1) return null;
    return [Math.floor(u * side()), Math.floor(v * side())];
  };
  canvas.addEventListener("pointermove", (event) => {
    cell = under(event) ?? cell;
    tell();
    draw();
  });
  canvas.addEventListener("pointerdown", (event) => {
    cell = under(event);
    load();
  });
  canvas.addEventListener("keydown", (event) => {
    if (!map) return;
    const by: Record<string, [number, number]> = {
      ArrowLeft: [-1, 0],
      ArrowRight: [1, 0],
      ArrowUp: [0, 1],
      ArrowDown: [0, -1],
    };
    const move = by[event.key];
    if (move) {
      cell ??= [nearest(map.lr, app.state.runs[Number(select.value)]?.lr ?? 0.01), Math.floor(side() / 3)];
      cell = [clamp(cell[0] + move[0], 0, side() - 1), clamp(cell[1] + move[1], 0, side() - 1)];
      tell();
      draw();
    } else if (event.key === "Enter") load();
    else return;
    event.preventDefault();
    event.stopPropagation();
  });
  const key = () => {
    const { text: f, start, steps, noise, runs } = app.state;
    const run = runs[Number(select.value)];
    const varied = run ? { ...run, lr: 0, own: { ...run.own, [name.value]: 0 } } : null;
    return JSON.stringify([f, start, steps, noise, varied, name.value]);
  };
  const ask = asker(
    element,
    (signal) => api.sweep(app.state, Number(select.value), name.value as "rho" | "eps", signal),
    (answer, ms) => {
      map = answer;
      said.textContent = `${(side() * side()).toLocaleString("en")} runs of ${app.state.steps} steps in ${show(ms / 1000, 2)} s`;
      draw();
    },
    (why) => {
      said.textContent = why;
    },
  );
  for (const each of [select, name]) each.addEventListener("change", () => ask(key));
  app.on(["result", "tab"], () => {
    refresh();
    if (select.value === "") {
      said.textContent = "Add an RMSprop: the map varies its hyperparameters.";
      return;
    }
    draw();
    ask(key);
  });
  new ResizeObserver(draw).observe(canvas);
  return element;
}

function nearest(values: Float64Array, to: number): number {
  let best = 0;
  // rho is spaced by what is left to 1, the rest by ratio; comparing both ways finds the same cell.
  for (let i = 1; i < values.length; i += 1) if (Math.abs(values[i]! - to) < Math.abs(values[best]! - to)) best = i;
  return best;
}

function legend(): HTMLElement {
  return h(
    "div",
    { class: "legend" },
    h("span", { class: "ramp", "aria-hidden": "true" }),
    h("span", {}, "low loss"),
    h("span", {}, "high loss"),
    h("span", { class: "lost" }, "diverged"),
  );
}

function axes(context: CanvasRenderingContext2D, width: number, height: number, map: api.Heat, name: string): void {
  const ink = getComputedStyle(document.documentElement).getPropertyValue("--muted").trim();
  context.fillStyle = ink;
  context.font = "11px 'IBM Plex Sans', sans-serif";
  const n = map.lr.length;
  const w = (width - MARGIN.left - MARGIN.right) / n;
  const t = (height - MARGIN.top - MARGIN.bottom) / n;
  context.textAlign = "center";
  const spot = (values: Float64Array, value: number, of: (v: number) => number) => {
    const [low, high] = [of(values[0]!), of(values.at(-1)!)];
    return (of(value) - low) / (high - low);
  };
  for (let power = -12; power <= 6; power += 1) {
    const part = spot(map.lr, 10 ** power, Math.log10);
    if (part < -1e-6 || part > 1 + 1e-6) continue;
    context.fillText(
      show(10 ** power, 2),
      clamp(MARGIN.left + part * w * n, MARGIN.left + 14, width - 14),
      height - MARGIN.bottom + 13,
    );
  }
  context.fillText("lr", MARGIN.left + (width - MARGIN.left) / 2, height - 4);
  context.textAlign = "right";
  const memory = (rho: number) => -Math.log(1 - rho);
  const marks = name === "rho" ? [0, 0.5, 0.9, 0.99, 0.999] : [1e-12, 1e-9, 1e-6, 1e-3, 1];
  for (const mark of marks) {
    const part = spot(map.other, mark, name === "rho" ? memory : Math.log10);
    const y = clamp(MARGIN.top + (1 - part) * t * n + 4, MARGIN.top + 9, height);
    context.fillText(show(mark, 3), MARGIN.left - 6, y);
  }
  context.save();
  context.translate(11, MARGIN.top + (height - MARGIN.top - MARGIN.bottom) / 2);
  context.rotate(-Math.PI / 2);
  context.textAlign = "center";
  context.fillText(name, 0, 0);
  context.restore();
}

export function basins(): HTMLElement {
  const { select, refresh } = runSelect("basins-run", true);
  const canvas = h("canvas", {
    id: "basins",
    role: "img",
    "aria-label": "Where a run from each start ends, by color",
  });
  const list = h("ul", { class: "basin-list" });
  const said = h("p", { class: "hint", id: "basins-said" });
  const element = h(
    "div",
    { class: "maps" },
    h("div", { class: "panel-bar" }, select, said),
    h("div", { class: "maps-body" }, canvas, h("div", { class: "maps-side" }, list)),
  );
  let found: api.Basins | null = null;
  const draw = perFrame(() => {
    if (!element.offsetParent || !found) return;
    const { width, height, ratio } = fit(canvas);
    const context = flat(canvas);
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.fillStyle = "#0a1020";
    context.fillRect(0, 0, width, height);
    const { count, label } = found;
    const tints = TINTS.map((hex) => rgb(hex).map((part) => part * 0.8) as [number, number, number]);
    const box = isotropic(width, height);
    paintCells(context, count, [box.left, box.top, box.width, box.height], (i) =>
      label[i]! < 0 ? NOWHERE : tints[label[i]! % tints.length]!,
    );
    const [[left, right], [bottom, top]] = app.state.domain;
    for (let i = 0; i < found.minima.length; i += 2) {
      const x = ((found.minima[i]! - left) / (right - left)) * box.width + box.left;
      const y = ((top - found.minima[i + 1]!) / (top - bottom)) * box.height + box.top;
      context.beginPath();
      context.arc(x, y, 5, 0, 7);
      context.fillStyle = TINTS[(i / 2) % TINTS.length]!;
      context.strokeStyle = "#0a1020";
      context.lineWidth = 2;
      context.fill();
      context.stroke();
    }
  });
  const key = () => {
    const { text, domain, steps, noise, runs } = app.state;
    return JSON.stringify([text, domain, steps, noise, runs[Number(select.value)]]);
  };
  const ask = asker(
    element,
    (signal) => api.starts(app.state, Number(select.value), signal),
    (answer, ms) => {
      found = answer;
      const starts = answer.count ** 2;
      said.textContent = `${starts.toLocaleString("en")} starts, ${app.state.steps} steps each, in ${show(ms / 1000, 2)} s: ${(100 * answer.share).toFixed(0)} % end at a minimum`;
      const items: HTMLElement[] = [];
      for (let i = 0; i < answer.minima.length / 2; i += 1) {
        const share = answer.label.filter((which) => which === i).length / starts;
        const dot = h("span", { class: "dot" });
        dot.style.background = TINTS[i % TINTS.length]!;
        items.push(
          h(
            "li",
            {},
            dot,
            `(${show(answer.minima[2 * i], 3)}, ${show(answer.minima[2 * i + 1], 3)})`,
            h("b", {}, `${(100 * share).toFixed(1)} %`),
          ),
        );
      }
      for (const [k, why] of ENDS.entries()) {
        const share = answer.label.filter((which) => which === -1 - k).length / starts;
        if (share)
          items.push(h("li", {}, h("span", { class: "dot none" }), why, h("b", {}, `${(100 * share).toFixed(1)} %`)));
      }
      fill(list, ...items);
      draw();
    },
    (why) => {
      said.textContent = why;
    },
  );
  select.addEventListener("change", () => ask(key));
  app.on(["result", "tab", "theme"], () => {
    refresh();
    draw();
    ask(key);
  });
  new ResizeObserver(draw).observe(canvas);
  return element;
}
