// The run as files: CSV, JSON, and the page itself, which opens with this state.
import { app, nameOf } from "./app";
import { toHash } from "./state";

/** The page as it came: this module runs before anything is added to it. */
const SOURCE = document.documentElement.outerHTML;

const COLUMNS = ["step", "run", "x", "y", "f", "grad_x", "grad_y", "statistic_x", "statistic_y", "rate_x", "rate_y"];

/** A line per point and run; all digits, so that reading gives the same numbers. */
export function csv(): string {
  const lines = [COLUMNS.join(",")];
  for (const [i, run] of (app.result?.runs ?? []).entries()) {
    const name = JSON.stringify(nameOf(i)).replaceAll('\\"', '""');
    for (let t = 0; t <= run.steps; t += 1) {
      const step =
        t < run.steps
          ? [run.grad, run.statistic, run.rate].flatMap((a) => [a[2 * t], a[2 * t + 1]])
          : Array(6).fill("");
      lines.push([t, name, run.x[2 * t], run.x[2 * t + 1], run.f[t], ...step].join(","));
    }
  }
  return `${lines.join("\n")}\n`;
}

/** Numbers that JSON has no word for become text, as the library's traces write them. */
const number = (value: number): number | string =>
  Number.isFinite(value) ? value : Number.isNaN(value) ? "nan" : value > 0 ? "inf" : "-inf";

const pairs = (array: Float64Array) =>
  Array.from({ length: array.length / 2 }, (_, t) => [number(array[2 * t]!), number(array[2 * t + 1]!)]);

export function json(): string {
  const runs = (app.result?.runs ?? []).map((run, i) => ({
    name: nameOf(i),
    optimizer: run.optimizer,
    dialect: run.dialect,
    lr: run.lr,
    rule: run.rule,
    own: run.own,
    x: pairs(run.x),
    f: Array.from(run.f, number),
    grad: pairs(run.grad),
    statistic: pairs(run.statistic),
    rate: pairs(run.rate),
  }));
  const { text, domain, start, steps, noise } = app.state;
  const notes = (app.result?.notes ?? []).map((note) => ({ ...note, run: nameOf(note.run) }));
  const { python, command } = app.result ?? {};
  return `${JSON.stringify({ format: "rmsprop-lab-1", function: text, domain, start, steps, noise, runs, notes, python, command }, null, 1)}\n`;
}

/** The page with this state: a live lab in one file. */
export function page(): string {
  app.state.step = app.step;
  const link = JSON.stringify(toHash(app.state)).replaceAll("<", "\\u003c");
  const title = `RMSprop lab: ${app.state.text}`.replaceAll("&", "&amp;").replaceAll("<", "&lt;");
  const changed = SOURCE.replace(/<title>[^<]*/, () => `<title>${title}`).replace(
    /(<script type="application\/json" id="saved">)[^<]*/,
    (_, tag) => tag + link,
  );
  return `<!doctype html>\n${changed}\n`;
}
