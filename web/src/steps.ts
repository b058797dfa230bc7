// One step of RMSprop, part by part, with this run's numbers.
import formulas from "formulas:data";
import { app, nameOf } from "./app";
import { fill, h, show } from "./dom";
import type { Rule, Run } from "./types";

export type Formula = [string, string, Record<string, string>, Record<string, string>, (Formula | string)[]] | string;

const SVG = new Set(["svg", "path", "line"]);

/** Build a formula that was typeset when the page was built. */
function typeset(node: Formula): Node {
  if (typeof node === "string") return document.createTextNode(node);
  const [tag, name, style, attributes, children] = node;
  const space = SVG.has(tag)
    ? "http://www.w3.org/2000/svg"
    : /^(math|semantics|m\w+|annotation)$/.test(tag)
      ? MATHML
      : HTML;
  const element = document.createElementNS(space, tag) as HTMLElement;
  if (name) element.setAttribute("class", name);
  for (const [key, value] of Object.entries(attributes)) if (key !== "xmlns") element.setAttribute(key, value);
  for (const [key, value] of Object.entries(style)) (element.style as unknown as Record<string, string>)[key] = value;
  element.append(...children.map(typeset));
  return element;
}
const HTML = "http://www.w3.org/1999/xhtml";
const MATHML = "http://www.w3.org/1998/Math/MathML";

interface Part {
  formula: string;
  title: string;
  says: string;
  values: [string, string];
}

/** The parts of the step that leads from point t to point t + 1. */
function partsOf(run: Run, rule: Rule, t: number): Part[] {
  const rho = Number(rule.rho);
  const eps = Number(rule.eps);
  const of = (array: Float64Array, axis: number, row = t) => array[2 * row + axis]!;
  const both = (text: (axis: number) => string): [string, string] => [text(0), text(1)];
  const g = (axis: number) => of(run.grad, axis);
  const v = (axis: number) => of(run.statistic, axis);
  const start = { zeros: 0, ones: 1, eps }[String(rule.init)] ?? Number(rule.init);
  const before = (axis: number) => (t ? of(run.statistic, axis, t - 1) : start);
  const rate = (axis: number) => of(run.rate, axis);
  const denominator = (axis: number) => run.lr / rate(axis);
  const unit = (axis: number) => g(axis) / denominator(axis);
  const isAboutOne = [0, 1].every((axis) => Math.abs(Math.abs(unit(axis)) - 1) <= 0.25);
  const centered = rule.centered === true;
  const mode = String(rule.eps_mode);
  return [
    { formula: "grad", title: "Gradient", says: "the gradient at the ball", values: both((a) => `g = ${show(g(a))}`) },
    {
      formula: "square",
      title: "Square",
      says: "the size of the gradient, without its sign",
      values: both((a) => `${g(a) < 0 ? `(${show(g(a))})` : show(g(a))}² = ${show(g(a) ** 2)}`),
    },
    {
      formula: centered ? "variance" : "mean",
      title: "Average",
      says: centered ? "the variance: the mean is subtracted" : `over about the last ${show(1 / (1 - rho), 3)} steps`,
      values: both((a) =>
        centered || rule.bias_correction
          ? `v = ${show(v(a))}`
          : `${show(rho)} · ${show(before(a))} + ${show(1 - rho)} · ${show(g(a) ** 2)} = ${show(v(a))}`,
      ),
    },
    {
      formula: mode,
      title: "Root",
      says: "in the unit of the gradient again",
      values: both((a) => `d = ${show(denominator(a))}`),
    },
    {
      formula: "unit",
      title: "Divide",
      says: isAboutOne ? "about ±1: the size of the gradient cancels" : "in units of its usual size",
      values: both((a) => `${show(g(a))} / ${show(denominator(a))} = ${show(unit(a))}`),
    },
    {
      formula: rule.buffer === "none" ? "step" : "buffer",
      title: "Step",
      says: rule.buffer === "none" ? "lr times that, against the gradient" : "with the momentum buffer",
      values: both((a) => {
        const [from, to] = [of(run.x, a), of(run.x, a, t + 1)];
        return `${show(from)} ${to < from ? "−" : "+"} ${show(Math.abs(to - from))} = ${show(to)}`;
      }),
    },
  ];
}

export function steps(): HTMLElement {
  const select = h("select", { id: "steps-run", "aria-label": "Run" });
  const says = h("p", { class: "hint" });
  const cards = h("ol", { class: "parts" });
  let part = 0;
  const move = (by: number) => {
    app.play(false);
    part += by;
    if (part > 5) {
      part = 0;
      app.seek(app.step + 1);
    } else if (part < 0) {
      part = app.step > 0 ? 5 : 0;
      app.seek(app.step - 1);
    }
    draw();
  };
  const element = h(
    "div",
    { class: "steps" },
    h(
      "div",
      { class: "panel-bar" },
      select,
      h("button", { type: "button", id: "part-back", onclick: () => move(-1) }, "Previous part"),
      h("button", { type: "button", id: "part-next", onclick: () => move(1) }, "Next part"),
      says,
    ),
    cards,
  );
  const draw = () => {
    if (!element.offsetParent) return;
    const run = app.result?.runs[Number(select.value)];
    if (!run?.rule || select.value === "") {
      fill(cards);
      says.textContent = "Add an RMSprop to see one of its steps.";
      return;
    }
    const t = Math.min(app.step, run.steps - 1);
    says.textContent = `Step ${t + 1} of ${run.steps}, from (${show(run.x[2 * t], 3)}, ${show(run.x[2 * t + 1], 3)})`;
    fill(
      cards,
      ...partsOf(run, run.rule, t).map((each, i) =>
        h(
          "li",
          {
            class: i === part ? "part lit" : "part",
            "aria-current": i === part ? "step" : null,
            "data-part": each.title,
          },
          h("b", {}, each.title),
          h("div", { class: "formula" }, typeset((formulas as Record<string, Formula>)[each.formula]!)),
          h("div", { class: "live" }, h("i", {}, "x"), h("span", {}, each.values[0])),
          h("div", { class: "live" }, h("i", {}, "y"), h("span", {}, each.values[1])),
          h("small", {}, each.says),
        ),
      ),
    );
  };
  select.addEventListener("change", draw);
  app.on(["result"], () => {
    const before = select.value;
    const own = (app.result?.runs ?? []).map((run, i) => [run, i] as const).filter(([run]) => run.rule);
    fill(select, ...own.map(([, i]) => h("option", { value: String(i) }, nameOf(i))));
    if (own.some(([, i]) => String(i) === before)) select.value = before;
    draw();
  });
  app.on(["time", "tab"], draw);
  return element;
}
