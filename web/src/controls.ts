// The left column: where the runs start, and every optimizer with its numbers.
import { app, nameOf } from "./app";
import { fill, h, show } from "./dom";
import { choice, flag, linear, logarithmic, memory, numberField } from "./fields";
import { swatch } from "./look";
import { setting } from "./state";
import type { Noise, RunSetting, Switch } from "./types";

const RATE = logarithmic(1e-5, 3);
const open = new Set<number>([0]);
/** Cards that show every switch: a card that is built anew keeps what its reader has opened. */
const whole = new Set<number>();

export function controls(root: HTMLElement): void {
  const cards = h("div", { class: "cards" });
  const place = h("section", { class: "group", "aria-label": "Start and noise" });
  const add = h(
    "select",
    { id: "add", "aria-label": "Add an optimizer" },
    h("option", { value: "" }, "Add an optimizer…"),
    ...app.catalog.optimizers.map((each) => h("option", { value: each.name }, each.label)),
  );
  add.addEventListener("change", () => {
    const { runs } = app.state;
    const first = runs.find((run) => run.optimizer === add.value) ?? runs[0];
    if (add.value && runs.length < app.catalog.limits.runs) {
      open.clear();
      open.add(runs.length);
      const own = first?.optimizer === add.value ? { ...first.own } : setting(add.value, 0).own;
      app.change({ runs: [...runs, { ...setting(add.value, first?.lr ?? 0.01), own }] });
    }
    add.value = "";
  });
  fill(root, h("h2", {}, "Optimizers"), cards, add, h("h2", {}, "Start"), place);

  const build = () => {
    fill(cards, ...app.state.runs.map((run, i) => card(run, i)));
    add.hidden = app.state.runs.length >= app.catalog.limits.runs;
    fill(place, ...placeFields());
  };
  app.on(["state", "theme"], build);
  app.on(["state"], () => markStart(place));
}

function markStart(place: HTMLElement): void {
  for (const axis of [0, 1] as const) {
    const field = place.querySelector<HTMLInputElement>(`input[data-start="${axis}"]`);
    if (field && document.activeElement !== field) field.value = String(app.state.start[axis]);
  }
}

function placeFields(): HTMLElement[] {
  const { state } = app;
  const coordinate = (axis: 0 | 1) => {
    const field = h("input", {
      type: "number",
      step: "any",
      class: "number",
      "data-start": String(axis),
      "aria-label": `Start ${"xy"[axis]}`,
      value: state.start[axis],
    });
    field.addEventListener("input", () => {
      if (field.value === "" || !Number.isFinite(Number(field.value))) return;
      const start: [number, number] = [...app.state.start];
      start[axis] = Number(field.value);
      app.change({ start }, true);
    });
    return h("label", { class: "coordinate" }, "xy"[axis]!, field);
  };
  const noise = (change: Partial<Noise>, quiet = true) =>
    app.change({ noise: { ...app.state.noise, ...change } }, quiet);
  const { kind, scale, seed } = state.noise;
  const seeds = h("input", { type: "number", min: "0", step: "1", class: "number", value: seed, "data-name": "seed" });
  seeds.addEventListener("input", () => {
    const value = Number(seeds.value);
    if (Number.isInteger(value) && value >= 0) noise({ seed: value });
  });
  const reroll = () => noise({ seed: (app.state.noise.seed + 1) % 2 ** 31 }, false);
  return [
    h("div", { class: "coordinates" }, coordinate(0), coordinate(1)),
    numberField(
      "steps",
      state.steps,
      logarithmic(10, app.catalog.limits.steps),
      (steps) => app.change({ steps }, true),
      {
        whole: true,
      },
    ),
    choice(
      "noise",
      kind,
      [
        ["none", "none: the exact gradient"],
        ["gauss", "normal noise, added to the gradient"],
        ["hinton", "Hinton's batches: 9 × +0.1, 1 × −0.9"],
      ],
      (value) => noise({ kind: value as Noise["kind"] }, false),
    ),
    ...(kind === "none"
      ? []
      : [numberField("scale", scale, logarithmic(0.001, 100), (value) => noise({ scale: value }), { name: "scale" })]),
    ...(kind === "gauss"
      ? [
          h(
            "div",
            { class: "field seed" },
            h("label", {}, "seed"),
            h("button", { type: "button", class: "quiet", onclick: reroll }, "another"),
            seeds,
          ),
        ]
      : []),
  ];
}

/** A switch as it stands: changed here, or the dialect's, or the library's. */
export function switchOf(run: RunSetting, name: string): Switch {
  const host = app.catalog.dialects.find((each) => each.name === run.dialect);
  return run.own[name] ?? host?.rule[name] ?? app.catalog.rule[name] ?? 0;
}

function card(run: RunSetting, i: number): HTMLElement {
  const summaryRate = h("span", { class: "card-rate" }, `lr ${show(run.lr, 3)}`);
  const change = (part: Partial<RunSetting>, quiet = true) => {
    const runs = app.state.runs.map((each, k) => (k === i ? { ...each, ...part } : each));
    summaryRate.textContent = `lr ${show(part.lr ?? runs[i]!.lr, 3)}`;
    app.change({ runs }, quiet);
  };
  const own = (name: string, value: Switch, quiet = true) =>
    change({ own: { ...app.state.runs[i]!.own, [name]: value } }, quiet);
  const rate = numberField("lr", run.lr, RATE, (lr) => change({ lr }), { title: "Learning rate, in units of x" });
  const details = h(
    "details",
    { class: "card", open: open.has(i), "data-run": String(i) },
    h("summary", {}, swatch(i), h("span", { class: "card-name" }, nameOf(i)), summaryRate),
    h(
      "div",
      { class: "card-body" },
      ...(run.optimizer === "rmsprop" ? rmspropFields(run, i, rate, own, change) : [rate, ...baselineFields(run, own)]),
      h(
        "div",
        { class: "card-tools" },
        h(
          "button",
          {
            type: "button",
            class: "quiet",
            disabled: app.state.runs.length >= app.catalog.limits.runs,
            onclick: () => {
              const runs = [...app.state.runs];
              runs.splice(i + 1, 0, structuredClone(app.state.runs[i]!));
              open.add(i + 1);
              app.change({ runs });
            },
          },
          "Duplicate",
        ),
        h(
          "button",
          {
            type: "button",
            class: "quiet",
            disabled: app.state.runs.length < 2,
            "aria-label": `Remove ${nameOf(i)}`,
            onclick: () => {
              open.delete(i);
              app.change({ runs: app.state.runs.filter((_, k) => k !== i) });
            },
          },
          "Remove",
        ),
      ),
    ),
  );
  details.addEventListener("toggle", () => {
    if (details.open) open.add(i);
    else open.delete(i);
  });
  return details;
}

function baselineFields(run: RunSetting, own: (name: string, value: Switch) => void): HTMLElement[] {
  return Object.entries(run.own).map(([name, value]) => {
    const scale = name === "eps" ? logarithmic(1e-12, 1, true) : name === "momentum" ? linear(0, 0.99, 2) : memory;
    return numberField(name, Number(value), scale, (to) => own(name, to));
  });
}

function rmspropFields(
  run: RunSetting,
  i: number,
  rate: HTMLElement,
  own: (name: string, value: Switch, quiet?: boolean) => void,
  change: (part: Partial<RunSetting>, quiet?: boolean) => void,
): HTMLElement[] {
  const of = (name: string) => switchOf(run, name);
  const number = (name: string, scale: Parameters<typeof numberField>[2], title: string) =>
    numberField(name.replace("_", " "), Number(of(name)), scale, (value) => own(name, value), { title, name });
  const pick = (name: string, options: [string, string][]) =>
    choice(name.replaceAll("_", " "), String(of(name)), options, (value) => own(name, value, false), name);
  const check = (name: string, label: string) => flag(label, of(name) === true, (on) => own(name, on, false), name);
  const hosts: [string, string][] = [
    ["", "this library's default"],
    ...app.catalog.dialects.map((each): [string, string] => [each.name, each.title]),
  ];
  return [
    choice("dialect", run.dialect ?? "", hosts, (name) => change({ dialect: name || null, own: {} }, false)),
    rate,
    number("rho", memory, "Decay of the mean square, an average over about 1 / (1 - rho) steps"),
    number("eps", logarithmic(1e-12, 1, true), "Added to the denominator"),
    number("momentum", linear(0, 0.99, 2), "Decay of the momentum buffer"),
    h(
      "details",
      {
        class: "more",
        open: whole.has(i),
        ontoggle: (event: Event) => {
          if ((event.target as HTMLDetailsElement).open) whole.add(i);
          else whole.delete(i);
        },
      },
      h("summary", {}, "More switches"),
      pick("eps_mode", [
        ["inside", "sqrt(v + eps)"],
        ["outside", "sqrt(v) + eps"],
        ["max", "max(sqrt(v), eps)"],
      ]),
      pick("init", [
        ["zeros", "v starts at 0"],
        ["ones", "v starts at 1"],
        ["eps", "v starts at eps"],
      ]),
      pick("buffer", [
        ["none", "no momentum buffer"],
        ["unit", "lr after the buffer"],
        ["lr", "lr inside the buffer"],
      ]),
      pick("nesterov", [
        ["none", "no Nesterov momentum"],
        ["post", "Nesterov"],
      ]),
      number("weight_decay", logarithmic(1e-6, 1, true), "Strength of the weight decay"),
      pick("weight_decay_mode", [
        ["none", "none"],
        ["l2", "l2: in the gradient"],
        ["decoupled", "decoupled"],
        ["decoupled_corrected", "decoupled, corrected"],
        ["in_buffer", "in the buffer"],
      ]),
      h("div", { class: "flags" }, check("centered", "centered"), check("bias_correction", "bias correction")),
    ),
  ];
}
