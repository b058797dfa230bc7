// The run in words and in numbers: what happened, and a table of every step.
import { app, nameOf } from "./app";
import { fill, h, show } from "./dom";
import { swatch } from "./look";

export function notes(): HTMLElement {
  const element = h("div", { class: "notes" });
  app.on(["result", "theme"], () => {
    const { result } = app;
    if (!result) return;
    fill(
      element,
      ...result.runs.map((_, i) =>
        h(
          "section",
          {},
          h("h3", {}, swatch(i), nameOf(i)),
          h(
            "ul",
            {},
            ...result.notes
              .filter((note) => note.run === i)
              .map((note) =>
                h(
                  "li",
                  {},
                  note.text,
                  note.step !== null &&
                    h(
                      "button",
                      { type: "button", class: "link", onclick: () => app.seek(note.step!) },
                      `show step ${note.step}`,
                    ),
                ),
              ),
          ),
        ),
      ),
    );
  });
  return element;
}

const AROUND = 100;

export function table(): HTMLElement {
  const select = h("select", { id: "table-run", "aria-label": "Run" });
  const body = h("tbody");
  const heads = ["step", "x", "y", "f", "g x", "g y", "v x", "v y", "rate x", "rate y"];
  const range = h("p", { class: "hint" });
  const scroller = h(
    "div",
    { class: "table-scroll", tabindex: "0", role: "region", "aria-label": "Numbers of the run" },
    h("table", {}, h("thead", {}, h("tr", {}, ...heads.map((text) => h("th", { scope: "col" }, text)))), body),
  );
  const element = h("div", { class: "table" }, h("div", { class: "panel-bar" }, select, range), scroller);
  let shown = "";
  let answer = 0;
  const draw = () => {
    if (!element.offsetParent) return;
    const run = app.result?.runs[Number(select.value)];
    if (!run) return;
    const from = Math.max(0, Math.min(app.step - AROUND / 2, run.steps - AROUND));
    const key = `${select.value} ${from}`;
    if (key !== shown || answer !== app.answers) {
      shown = key;
      answer = app.answers;
      const rows: HTMLElement[] = [];
      for (let t = from; t <= Math.min(run.steps, from + AROUND); t += 1) {
        const of = (array: Float64Array, axis: number) => (t < run.steps ? show(array[2 * t + axis], 6) : "");
        rows.push(
          h(
            "tr",
            { "data-step": String(t) },
            h("th", { scope: "row" }, String(t)),
            ...[
              show(run.x[2 * t], 8),
              show(run.x[2 * t + 1], 8),
              show(run.f[t], 8),
              ...[run.grad, run.statistic, run.rate].flatMap((array) => [of(array, 0), of(array, 1)]),
            ].map((text) => h("td", {}, text)),
          ),
        );
      }
      fill(body, ...rows);
      range.textContent =
        run.steps > AROUND
          ? `Steps ${from} to ${from + AROUND} of ${run.steps}, around the cursor; use Export, CSV for all steps`
          : "";
    }
    for (const row of body.children) {
      const now = row.getAttribute("data-step") === String(Math.min(app.step, run.steps));
      row.classList.toggle("now", now);
      if (now) {
        const place = (row as HTMLElement).offsetTop;
        if (place < scroller.scrollTop + 30 || place > scroller.scrollTop + scroller.clientHeight - 30) {
          scroller.scrollTop = place - scroller.clientHeight / 2;
        }
      }
    }
  };
  select.addEventListener("change", draw);
  app.on(["result"], () => {
    const before = select.value || "0";
    fill(select, ...(app.result?.runs ?? []).map((_, i) => h("option", { value: String(i) }, nameOf(i))));
    select.value = Number(before) < (app.result?.runs.length ?? 0) ? before : "0";
    draw();
  });
  app.on(["time", "tab"], draw);
  return element;
}

/** What a screen reader hears: notes after a run, the step after a rest. */
export function announce(live: HTMLElement): void {
  let timer = 0;
  const later = (text: () => string) => {
    clearTimeout(timer);
    timer = window.setTimeout(() => {
      live.textContent = text();
    }, 700);
  };
  app.on(["result"], () =>
    later(() => (app.result?.notes ?? []).map((note) => `${nameOf(note.run)}: ${note.text}`).join(" ")),
  );
  app.on(["time"], () => {
    if (app.playing || !app.result || app.answers === 0) return;
    later(() => {
      const values = app.result!.runs.map((run, i) => `${nameOf(i)} ${show(run.f[Math.min(app.step, run.steps)], 3)}`);
      return `Step ${app.step} of ${app.end}. Loss: ${values.join(", ")}.`;
    });
  });
}
