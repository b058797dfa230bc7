// Two dialogs: the link and the code, and the files.
import { app } from "./app";
import { download, fill, h } from "./dom";
import { csv, json, page } from "./files";
import { canFilm, gif, mp4 } from "./films";
import { type Content, drawFrame } from "./frames";

function dialog(title: string, ...content: HTMLElement[]): HTMLDialogElement {
  const element = h(
    "dialog",
    { "aria-label": title },
    h(
      "form",
      { method: "dialog", class: "dialog-top" },
      h("h2", {}, title),
      h("button", { class: "quiet", "aria-label": "Close" }, "Close"),
    ),
    ...content,
  );
  element.addEventListener("close", () => element.remove());
  element.addEventListener("click", (event) => {
    if (event.target === element) element.close();
  });
  document.body.append(element);
  app.play(false);
  element.showModal();
  return element;
}

function copyable(title: string, text: string, id: string, hint: string): HTMLElement {
  const area = h("textarea", {
    id,
    readonly: true,
    rows: String(Math.min(12, text.split("\n").length + 1)),
    "aria-label": title,
  });
  area.value = text;
  const button = h("button", { type: "button", "data-copies": id }, "Copy");
  button.addEventListener("click", async () => {
    area.select();
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
    } catch {
      button.textContent = "Selected: press Ctrl-C";
    }
    setTimeout(() => {
      button.textContent = "Copy";
    }, 1600);
  });
  return h(
    "section",
    { class: "copyable" },
    h("div", { class: "copy-top" }, h("h3", {}, title), button),
    h("p", { class: "hint" }, hint),
    area,
  );
}

export function openShare(): void {
  const { result } = app;
  const parts: HTMLElement[] = [];
  if (location.protocol !== "file:")
    parts.push(copyable("Link", app.link(), "link-text", "Restores this page in a lab at the same address."));
  if (result) {
    parts.push(
      copyable("Python", result.python, "python-text", "The same runs with the library; prints the same numbers."),
    );
    if (result.command)
      parts.push(copyable("Command", result.command, "command-text", "Draws these runs in a terminal."));
    else
      parts.push(
        h(
          "p",
          { class: "hint", id: "no-command" },
          "A command exists for an RMSprop with baselines that have default hyperparameters, and unchanged dialects.",
        ),
      );
  }
  dialog("Share", ...parts);
}

export function openExport(): void {
  const number = (id: string, label: string, value: number, min: number, max: number) => {
    const field = h("input", { type: "number", id, value, min: String(min), max: String(max), class: "number" });
    return [h("label", { class: "coordinate" }, label, field), field] as const;
  };
  const [secondsLabel, seconds] = number("film-seconds", "seconds", 4, 1, 60);
  const [fpsLabel, fps] = number("film-fps", "frames/s", 25, 1, 50);
  const [widthLabel, width] = number("film-width", "width", 640, 160, 1920);
  const [heightLabel, height] = number("film-height", "height", 480, 120, 1080);
  const content = h(
    "select",
    { id: "film-content", "aria-label": "What" },
    h("option", { value: "map" }, "the map"),
    h("option", { value: "surface" }, "the surface"),
    h("option", { value: "both" }, "both"),
  );
  const progress = h("progress", { max: "1", value: "0", hidden: true });
  const said = h("p", { class: "hint", role: "status", id: "export-said" });
  const of = (field: HTMLInputElement) =>
    Math.min(Number(field.max), Math.max(Number(field.min), Math.round(Number(field.value) || 0)));
  const film = () => ({
    width: of(width),
    height: of(height),
    seconds: of(seconds),
    fps: of(fps),
    content: content.value as Content,
    progress: (part: number) => {
      progress.value = part;
    },
  });
  const makers: [string, string, () => Promise<Blob>][] = [
    ["PNG", "rmsprop-lab.png", png],
    ["GIF", "rmsprop-lab.gif", () => gif(film())],
    ...(canFilm() ? ([["MP4", "rmsprop-lab.mp4", () => mp4(film())]] as [string, string, () => Promise<Blob>][]) : []),
    ["CSV", "rmsprop-lab.csv", async () => new Blob([csv()], { type: "text/csv" })],
    ["JSON", "rmsprop-lab.json", async () => new Blob([json()], { type: "application/json" })],
    ["HTML", "rmsprop-lab.html", async () => new Blob([page()], { type: "text/html" })],
  ];
  async function png(): Promise<Blob> {
    const canvas = document.createElement("canvas");
    const { width: w, height: t, content: what } = film();
    drawFrame(canvas, w, t, 2, app.time, what);
    return new Promise((done, failed) =>
      canvas.toBlob((blob) => (blob ? done(blob) : failed(new Error("no picture"))), "image/png"),
    );
  }
  const buttons = makers.map(([title, name, make]) => {
    const button = h("button", { type: "button", id: `export-${title.toLowerCase()}` }, title);
    button.addEventListener("click", async () => {
      for (const each of buttons) each.disabled = true;
      progress.hidden = false;
      progress.value = 0;
      said.textContent = `Making ${name} …`;
      const began = performance.now();
      try {
        const blob = await make();
        download(name, blob);
        const size = blob.size > 1e6 ? `${(blob.size / 1e6).toFixed(1)} MB` : `${Math.ceil(blob.size / 1e3)} KB`;
        said.textContent = `${name}: ${size}, made in ${((performance.now() - began) / 1000).toFixed(1)} s`;
      } catch (error) {
        said.textContent = error instanceof Error ? error.message : String(error);
      }
      progress.hidden = true;
      for (const each of buttons) each.disabled = false;
    });
    return button;
  });
  const films = h("div", { class: "film" });
  fill(films, content, widthLabel, heightLabel, secondsLabel, fpsLabel);
  dialog(
    "Export",
    h(
      "p",
      { class: "hint" },
      "A picture of this step, a film of the whole run, the numbers, or a page that works without a server.",
    ),
    films,
    h("div", { class: "exports" }, ...buttons),
    progress,
    said,
  );
}
