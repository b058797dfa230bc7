// Two runs, most often two dialects of one optimizer, and how far apart their paths are.
import uPlot from "uplot";
import { app, nameOf } from "./app";
import { decades, range } from "./curves";
import { fill, h, perFrame, show } from "./dom";
import { setting } from "./state";
import type { Rule, Run } from "./types";

export function distances(a: Run, b: Run): number[] {
  const found: number[] = [];
  for (let t = 0; t <= Math.min(a.steps, b.steps); t += 1) {
    found.push(Math.hypot(a.x[2 * t]! - b.x[2 * t]!, a.x[2 * t + 1]! - b.x[2 * t + 1]!));
  }
  return found;
}

export function apart(): HTMLElement {
  const first = h("select", { id: "apart-a", "aria-label": "First run" });
  const second = h("select", { id: "apart-b", "aria-label": "Second run" });
  const box = h("div", { class: "plot" });
  const text = h("div", { class: "apart-text" });
  const line = h("div", { class: "cursor-line" });
  const pair = (a: string, b: string) => () => {
    const own = app.state.runs.find((run) => run.optimizer === "rmsprop");
    const lr = own?.lr ?? 0.01;
    app.change({
      runs: [
        { ...setting("rmsprop", lr), dialect: a },
        { ...setting("rmsprop", lr), dialect: b },
      ],
    });
  };
  const element = h(
    "div",
    { class: "apart" },
    h(
      "div",
      { class: "panel-bar" },
      first,
      h("span", {}, "and"),
      second,
      h(
        "button",
        { type: "button", id: "torch-tf", class: "quiet", onclick: pair("torch", "tensorflow1") },
        "PyTorch and TensorFlow 1",
      ),
      h("button", { type: "button", class: "quiet", onclick: pair("keras3", "optax") }, "Keras 3 and Optax"),
      h("button", { type: "button", class: "quiet", onclick: pair("torch", "keras3") }, "PyTorch and Keras 3"),
    ),
    h(
      "div",
      { class: "apart-body" },
      h(
        "figure",
        { class: "chart" },
        h("figcaption", {}, h("span", { class: "chart-title" }, "Distance between the paths")),
        box,
      ),
      text,
    ),
  );
  let plot: uPlot | null = null;
  const mark = () => {
    if (plot) line.style.transform = `translateX(${plot.valToPos(app.time, "x")}px)`;
  };
  const draw = perFrame(() => {
    plot?.destroy();
    plot = null;
    if (!element.offsetParent) return;
    const a = app.result?.runs[Number(first.value)];
    const b = app.result?.runs[Number(second.value)];
    if (!a || !b || first.value === second.value) {
      fill(text, h("p", {}, "Choose two runs, or one of the pairs above: the same optimizer in two libraries."));
      return;
    }
    const apart = distances(a, b);
    const logs = apart.map((d) => (d > 0 && Number.isFinite(d) ? d : null));
    const end = apart.at(-1)!;
    const worst = Math.max(...apart.filter(Number.isFinite));
    fill(
      text,
      h(
        "p",
        { id: "apart-end" },
        `After ${apart.length - 1} steps they are ${show(end)} apart; the largest distance is ${show(worst)}.`,
      ),
      a.rule && b.rule ? difference(a.rule, b.rule, a, b) : null,
    );
    if (!logs.some((d) => d !== null)) return;
    const style = getComputedStyle(document.documentElement);
    const ink = style.getPropertyValue("--muted").trim();
    const grid = { stroke: style.getPropertyValue("--line").trim(), width: 1 };
    const font = "11px 'IBM Plex Sans', sans-serif";
    plot = new uPlot(
      {
        width: box.clientWidth,
        height: box.clientHeight,
        legend: { show: false },
        padding: [8, 8, 0, 0],
        cursor: { y: false, drag: { x: false, y: false } },
        scales: { x: { time: false }, y: { distr: 3, range: range(true) } },
        axes: [
          { stroke: ink, grid: { show: false }, ticks: { ...grid, size: 3 }, font, size: 22 },
          {
            stroke: ink,
            grid,
            ticks: { show: false },
            font,
            size: 52,
            filter: (_u, splits) => splits,
            splits: (_u, _i, low, high) => decades(low, high),
            values: (_, s) => s.map((v) => (v ? show(v, 2) : "")),
          },
        ],
        hooks: { draw: [() => mark()] },
        series: [{}, { stroke: style.getPropertyValue("--accent").trim(), width: 2, points: { show: false } }],
      },
      [apart.map((_, i) => i), logs] as uPlot.AlignedData,
      box,
    );
    plot.over.prepend(line);
    mark();
  });
  for (const select of [first, second]) select.addEventListener("change", draw);
  app.on(["result"], () => {
    const count = app.result?.runs.length ?? 0;
    for (const [select, usual] of [
      [first, 0],
      [second, 1],
    ] as const) {
      const before = select.value === "" ? usual : Number(select.value);
      fill(select, ...Array.from({ length: count }, (_, i) => h("option", { value: String(i) }, nameOf(i))));
      select.value = String(before < count ? before : Math.min(usual, count - 1));
    }
    draw();
  });
  app.on(["tab", "theme"], draw);
  app.on(["time"], mark);
  return element;
}

function difference(a: Rule, b: Rule, left: Run, right: Run): HTMLElement {
  const rows = Object.keys(a).filter((name) => a[name] !== b[name]);
  if (!rows.length && left.lr === right.lr) return h("p", {}, "Their rules are the same.");
  const all: [string, string, string][] = rows.map((name) => [name, String(a[name]), String(b[name])]);
  if (left.lr !== right.lr) all.unshift(["lr", String(left.lr), String(right.lr)]);
  return h(
    "table",
    { class: "plain" },
    h("caption", {}, "Where they differ"),
    ...all.map((cells) =>
      h("tr", {}, h("th", { scope: "row" }, cells[0]), h("td", {}, cells[1]), h("td", {}, cells[2])),
    ),
  );
}
