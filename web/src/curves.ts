// The curves: one number of every run over the steps, on a common time axis, with the time cursor and the memory window.
import uPlot from "uplot";
import { app } from "./app";
import { clamp, h, perFrame, show } from "./dom";
import { colorOf } from "./look";
import { panel } from "./squares";
import type { Run } from "./types";

type Row = (number | null)[];

interface Quantity {
  id: string;
  title: string;
  /** One row of values, or one for x and one for y; null where the logarithm has no place. */
  rows(run: Run): [Row] | [Row, Row];
  memory?: boolean;
}

const positive = (value: number): number | null => (value > 0 && Number.isFinite(value) ? value : null);

function axis(array: Float64Array, which: 0 | 1, shift: number): Row {
  const row: Row = shift ? [null] : [];
  for (let i = which; i < array.length; i += 2) row.push(positive(array[i]!));
  return row;
}

/** What is drawn as loss: its distance from the known minimum, or from the lowest value seen. */
export function floor(): { value: number; known: boolean } {
  const known = app.scene?.minimum;
  if (known !== null && known !== undefined) return { value: known, known: true };
  return { value: 0, known: false };
}

const QUANTITIES: Quantity[] = [
  {
    id: "loss",
    title: "Loss",
    rows: (run) => [Array.from(run.f, (f) => (lossLog ? positive(f - floor().value) : Number.isFinite(f) ? f : null))],
  },
  {
    id: "norm",
    title: "Gradient norm",
    rows: (run) => [[...pairs(run.grad, (x, y) => positive(Math.hypot(x, y))), null]],
  },
  {
    id: "length",
    title: "Step length",
    rows: (run) => {
      const row: Row = [null];
      for (let t = 0; t < run.steps; t += 1) {
        const i = 2 * t;
        row.push(positive(Math.hypot(run.x[i + 2]! - run.x[i]!, run.x[i + 3]! - run.x[i + 1]!)));
      }
      return [row];
    },
  },
  {
    id: "rate",
    title: "Effective learning rate",
    rows: (run) => [axis(run.rate, 0, 1), axis(run.rate, 1, 1)],
    memory: true,
  },
  {
    id: "statistic",
    title: "Accumulator",
    rows: (run) => [axis(run.statistic, 0, 1), axis(run.statistic, 1, 1)],
    memory: true,
  },
];

let lossLog = true;

function pairs<T>(array: Float64Array, of: (x: number, y: number) => T): T[] {
  const found: T[] = [];
  for (let i = 0; i < array.length; i += 2) found.push(of(array[i]!, array[i + 1]!));
  return found;
}

function tick(value: number | null): string {
  if (value === null) return "";
  if (value === 0) return "0";
  const power = Math.log10(Math.abs(value));
  if (Math.abs(power) < 3.5) return show(value, 3);
  return Number.isInteger(Math.round(power * 1e6) / 1e6) ? `1e${Math.round(power)}`.replace("-", "−") : "";
}

class Chart {
  element: HTMLElement;
  private box = h("div", { class: "plot" });
  private line = h("div", { class: "cursor-line" });
  private window = h("div", { class: "memory" });
  private note = h("span", { class: "chart-note" });
  private plot: uPlot | null = null;
  private drawn = "";
  private cap = 1e100;

  constructor(private quantity: Quantity) {
    const key = quantity.rows.length && quantity.memory ? h("span", { class: "tiny" }, "x solid, y dashed") : null;
    this.element = h(
      "figure",
      { class: "chart", "aria-label": quantity.title, id: `chart-${quantity.id}` },
      h("figcaption", {}, h("span", { class: "chart-title" }, quantity.title), this.note, key),
      this.box,
    );
    new ResizeObserver(perFrame(() => this.resize())).observe(this.box);
  }

  build(): void {
    const { result } = app;
    if (!result || !this.box.clientWidth) return;
    const isLoss = this.quantity.id === "loss";
    if (isLoss) {
      const low = floor();
      lossLog = low.known || result.runs.every((run) => run.f.every((f) => !(f <= 0)));
      this.note.textContent = low.known ? "above the minimum" : "";
    }
    const length = app.end + 1;
    const data: Row[] = [Array.from({ length }, (_, i) => i)];
    const series: uPlot.Series[] = [{}];
    for (const [i, run] of result.runs.entries()) {
      for (const [k, row] of this.quantity.rows(run).entries()) {
        if (row.every((value) => value === null)) continue;
        while (row.length < length) row.push(null);
        data.push(row);
        series.push({ stroke: colorOf(i), width: 1.6, points: { show: false }, ...(k ? { dash: [4, 4] } : {}) });
      }
    }
    // A run that diverges leaves the chart at the top instead of flattening the others.
    const first = Math.max(...data.slice(1).map((row) => Math.abs(row.find((value) => value !== null) ?? 0)));
    this.cap = isLoss || this.quantity.id === "norm" || this.quantity.id === "length" ? 1e3 * (first || 1) : 1e100;
    const style = getComputedStyle(document.documentElement);
    const ink = style.getPropertyValue("--muted").trim();
    const grid = { stroke: style.getPropertyValue("--line").trim(), width: 1 };
    const logarithmic = !isLoss || lossLog;
    const font = "11px 'IBM Plex Sans', sans-serif";
    // The same lines with other numbers need no new chart.
    const drawn = JSON.stringify([series, logarithmic, ink]);
    if (this.plot && drawn === this.drawn) {
      this.plot.setData(data as uPlot.AlignedData);
      return;
    }
    this.plot?.destroy();
    this.plot = null;
    this.drawn = drawn;
    if (data.length === 1) return;
    this.plot = new uPlot(
      {
        width: this.box.clientWidth,
        height: this.box.clientHeight,
        padding: [8, 16, 0, 0],
        legend: { show: false },
        cursor: {
          y: false,
          points: { show: true, size: 5 },
          drag: { x: false, y: false },
          sync: { key: "steps" },
        },
        scales: { x: { time: false }, y: { distr: logarithmic ? 3 : 1, range: range(logarithmic, () => this.cap) } },
        axes: [
          { stroke: ink, grid: { show: false }, ticks: { ...grid, size: 3 }, font, size: 20, gap: 2, space: 56 },
          {
            stroke: ink,
            grid,
            ticks: { show: false },
            font,
            size: 44,
            gap: 4,
            space: 22,
            filter: (_, splits) => splits,
            ...(logarithmic ? { splits: (_: uPlot, __: number, low: number, high: number) => decades(low, high) } : {}),
            values: (_, splits) => splits.map((split) => tick(split)),
          },
        ],
        series,
        hooks: {
          draw: [() => this.mark()],
          setCursor: [
            (u) => {
              const index = u.cursor.left !== undefined && u.cursor.left >= 0 ? (u.cursor.idx ?? null) : null;
              if (app.hover === index) return;
              app.hover = index;
              app.emit("hover");
            },
          ],
        },
      },
      data as uPlot.AlignedData,
      this.box,
    );
    this.plot.over.prepend(this.window, this.line);
    this.plot.over.addEventListener("pointerdown", (event) => {
      const go = (e: PointerEvent) => {
        const u = this.plot;
        if (u) app.seek(Math.round(u.posToVal(e.clientX - u.over.getBoundingClientRect().left, "x")));
      };
      const over = event.currentTarget as HTMLElement;
      over.setPointerCapture(event.pointerId);
      app.play(false);
      go(event);
      over.addEventListener("pointermove", go);
      over.addEventListener("pointerup", () => over.removeEventListener("pointermove", go), { once: true });
    });
    this.mark();
  }

  resize(): void {
    if (!this.box.clientWidth) return;
    if (this.plot) {
      this.plot.setSize({ width: this.box.clientWidth, height: this.box.clientHeight });
      this.mark();
    } else this.build();
  }

  /** Move the time cursor, and the window of steps that the accumulator remembers. */
  mark(): void {
    const u = this.plot;
    if (!u) return;
    const x = u.valToPos(app.time, "x");
    this.line.style.transform = `translateX(${x}px)`;
    const first = app.result?.runs.find((run) => run.rule !== null);
    const rho = Number(first?.rule?.rho ?? 0);
    const shown = Boolean(this.quantity.memory && first && rho < 1);
    this.window.hidden = !shown;
    if (!shown) return;
    const from = clamp(app.time - 1 / (1 - rho), 0, app.time);
    const left = u.valToPos(from, "x");
    this.window.style.left = `${left}px`;
    this.window.style.width = `${Math.max(0, x - left)}px`;
    this.window.title = `rho ${show(rho)}: averages over about ${show(1 / (1 - rho), 3)} steps`;
  }
}

/** Lines at powers of ten, at most four; within two decades at 1, 2 and 5 too. */
export function decades(low: number, high: number): number[] {
  const from = Math.ceil(Math.log10(low) - 1e-9);
  const to = Math.floor(Math.log10(high) + 1e-9);
  const count = to - from + 1;
  if (count >= 3) {
    const stride = Math.ceil(count / 4);
    return Array.from({ length: Math.ceil(count / stride) }, (_, i) => 10 ** (to - i * stride)).reverse();
  }
  const found: number[] = [];
  for (let power = from - 1; power <= to; power += 1) {
    for (const digit of count >= 2 ? [1, 3] : [1, 2, 5]) {
      const value = digit * 10 ** power;
      if (value >= low && value <= high) found.push(value);
    }
  }
  return found;
}

/** Room above and below; on a logarithmic axis at most fourteen decades, so that one exact zero does not squeeze the rest. */
export function range(logarithmic: boolean, cap = () => 1e100): uPlot.Scale.Range {
  return (_, low, above) => {
    if (low === null || above === null || !Number.isFinite(low) || !Number.isFinite(above)) return [0.1, 1];
    const high = Math.max(low, Math.min(above, cap()));
    if (!logarithmic) {
      const margin = 0.06 * (high - low) || 1;
      return [low - margin, high + margin];
    }
    const top = high * 1.4;
    return [Math.max(low / 1.4, top * 1e-14), top];
  };
}

export function curves(): HTMLElement {
  const charts = QUANTITIES.map((quantity) => new Chart(quantity));
  const element = h("div", { class: "charts" }, ...charts.map((chart) => chart.element), panel());
  const build = perFrame(() => {
    for (const chart of charts) chart.build();
  });
  app.on(["result", "theme"], build);
  app.on(["time"], () => {
    for (const chart of charts) chart.mark();
  });
  return element;
}
