// The time cursor: drag, play, step, speed, loop; and its keys.
import { app, nameOf } from "./app";
import { fill, h, show } from "./dom";
import { colorOf, swatch } from "./look";

const SPEEDS = [0.1, 0.25, 0.5, 1, 2, 5, 10, 20];
const ICONS: Record<string, string> = {
  play: "M5 3.5v13l11-6.5z",
  pause: "M5 4h3.6v12H5zM11.4 4H15v12h-3.6z",
  back: "M14 4v12L5.5 10zM4 4h1.8v12H4z",
  next: "M6 4v12l8.500-6zM14.200 4H16v12h-1.800z",
  first: "M16 4v12l-6-6zM10 4v12l-6-6zM3 4h1.600v12H3z",
  last: "M4 4v12l6-6zM10 4v12l6-6zM15.400 4H17v12h-1.600z",
  loop: "M6 5h8a3 3 0 0 1 3 3v4a3 3 0 0 1-3 3H6a3 3 0 0 1-3-3v-1h1.700v1c0 .7.600 1.300 1.300 1.300h8c.7 0 1.300-.6 1.300-1.300V8c0-.7-.6-1.300-1.300-1.300H6V9L2.500 5.900 6 2.700z",
};

export function icon(name: string): SVGSVGElement {
  const space = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(space, "svg");
  svg.setAttribute("viewBox", "0 0 20 20");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS(space, "path");
  path.setAttribute("d", ICONS[name] ?? "");
  svg.append(path);
  return svg;
}

export function timeline(root: HTMLElement): void {
  const button = (name: string, label: string, work: () => void, id?: string) =>
    h("button", { type: "button", class: "icon", "aria-label": label, title: label, onclick: work, id }, icon(name));
  const play = button("play", "Play (Space)", () => app.play(!app.playing), "play");
  const loop = button(
    "loop",
    "Loop",
    () => {
      app.loop = !app.loop;
      loop.setAttribute("aria-pressed", String(app.loop));
    },
    "loop",
  );
  loop.setAttribute("aria-pressed", "false");
  const slider = h("input", {
    type: "range",
    id: "time",
    min: "0",
    max: "1",
    step: "1",
    value: "0",
    "aria-label": "Step",
  });
  const speed = h(
    "select",
    { id: "speed", "aria-label": "Speed" },
    ...SPEEDS.map((value) => h("option", { value: String(value) }, `${value}×`)),
  );
  speed.value = "1";
  speed.addEventListener("change", () => {
    app.speed = Number(speed.value);
  });
  const count = h("output", { id: "step-count", for: "time" });
  const values = h("div", { id: "values" });
  const step = (by: number) => {
    app.play(false);
    app.seek(Math.round(app.step + by));
  };
  slider.addEventListener("input", () => {
    app.play(false);
    app.seek(Number(slider.value));
  });
  slider.addEventListener("change", () => app.remember());
  fill(
    root,
    h(
      "div",
      { class: "transport" },
      button("first", "First step (Home)", () => step(Number.NEGATIVE_INFINITY), "first"),
      button("back", "One step back (Left)", () => step(-1), "back"),
      play,
      button("next", "One step forward (Right)", () => step(1), "next"),
      button("last", "Last step (End)", () => step(Number.POSITIVE_INFINITY), "last"),
      loop,
      speed,
    ),
    h("div", { class: "scrub" }, slider),
    count,
    values,
  );

  let cells: HTMLElement[] = [];
  const build = () => {
    cells = [];
    fill(
      values,
      ...(app.result?.runs ?? []).map((_, i) => {
        const cell = h("output", { class: "value", "data-run": String(i) });
        cells.push(cell);
        return h("span", { class: "value-run", title: nameOf(i) }, swatch(i), cell);
      }),
    );
  };
  const mark = () => {
    const at = app.hover ?? app.step;
    slider.max = String(app.end);
    slider.value = String(app.step);
    slider.setAttribute("aria-valuetext", `step ${app.step} of ${app.end}`);
    slider.style.setProperty("--done", `${(100 * app.time) / app.end}%`);
    count.textContent = `${app.hover === null ? "" : "▸ "}${at} / ${app.end}`;
    for (const [i, run] of (app.result?.runs ?? []).entries()) {
      const cell = cells[i];
      if (!cell) continue;
      const value = run.f[Math.min(at, run.steps)];
      cell.textContent = run.broken !== null && at >= run.broken ? "diverged" : show(value, 4);
      cell.style.color = colorOf(i);
    }
  };
  app.on(["result", "theme"], () => {
    build();
    mark();
  });
  app.on(["time", "hover"], mark);
  app.on(["playing"], () => {
    fill(play, icon(app.playing ? "pause" : "play"));
    play.setAttribute("aria-label", app.playing ? "Pause (Space)" : "Play (Space)");
  });

  document.addEventListener("keydown", (event) => {
    const target = event.target as HTMLElement;
    if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
    const typing = target.matches("input:not([type=range]):not([type=checkbox]), select, textarea, [role=tab]");
    const sliding = target.matches("input[type=range]") && target !== slider;
    if (typing || sliding) return;
    if (event.key === " " && target.matches("button, a, summary, input[type=checkbox]")) return;
    const keys: Record<string, () => void> = {
      " ": () => app.play(!app.playing),
      ArrowLeft: () => step(event.shiftKey ? -10 : -1),
      ArrowRight: () => step(event.shiftKey ? 10 : 1),
      Home: () => step(Number.NEGATIVE_INFINITY),
      End: () => step(Number.POSITIVE_INFINITY),
    };
    const work = keys[event.key];
    if (!work) return;
    event.preventDefault();
    work();
  });
}
