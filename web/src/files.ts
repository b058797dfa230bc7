// The run as files: CSV, JSON, and one HTML file that needs no server.
import { last, type Saved } from "./api";
import { app, nameOf } from "./app";

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

function base64(buffer: ArrayBuffer): string {
  const bytes = new Uint8Array(buffer);
  let text = "";
  for (let i = 0; i < bytes.length; i += 0x8000) text += String.fromCharCode(...bytes.subarray(i, i + 0x8000));
  return btoa(text);
}

async function source(path: string): Promise<Response> {
  const response = await fetch(path);
  if (!response.ok) throw new Error(`${path}: the server answered ${response.status}`);
  return response;
}

/** The page itself, with this run's numbers inside: script, style and fonts in one file. */
export async function page(): Promise<string> {
  if (!last.run || !last.surface) throw new Error("There is no run yet.");
  const script = (await (await source("main.js")).text()).replaceAll("</script", "<\\/script");
  let style = await (await source("style.css")).text();
  for (const [whole, path] of [...style.matchAll(/url\("?(\.\/fonts\/[^")]+)"?\)/g)]) {
    const font = base64(await (await source(path!)).arrayBuffer());
    style = style.replaceAll(whole, `url(data:font/woff2;base64,${font})`);
  }
  app.state.step = app.step;
  const saved: Saved = {
    state: app.state,
    catalog: app.catalog,
    run: base64(last.run),
    surface: base64(last.surface),
  };
  const data = JSON.stringify(saved).replaceAll("<", "\\u003c");
  const policy =
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:; font-src data:; media-src blob:";
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="${policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>RMSprop lab: ${escaped(app.state.text)}</title>
<style>${style}</style>
</head>
<body class="saved">
<header id="top"></header>
<div id="message" role="alert" hidden></div>
<main><aside id="controls" aria-label="Optimizers and settings"></aside>
<section id="stage" aria-label="The run" tabindex="-1"><div id="views"></div><div id="dock"></div></section></main>
<footer id="timeline"></footer>
<div id="live" class="unseen" aria-live="polite"></div>
<script type="application/json" id="saved">${data}</script>
<script>${script}</script>
</body>
</html>
`;
}

const escaped = (text: string) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;");
