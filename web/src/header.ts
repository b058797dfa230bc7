// The top line: which surface, which function, and what to do with the whole.
import { app } from "./app";
import { fill, h } from "./dom";
import { openExport, openShare } from "./share";
import { hinton, missing, ofScene } from "./state";

export function header(root: HTMLElement): void {
  const scenes = h(
    "select",
    { id: "scene", "aria-label": "Surface" },
    ...app.catalog.scenes.map((scene) => h("option", { value: scene.name }, scene.title)),
    h("option", { value: "#hinton" }, "Hinton's mini-batches"),
    h("option", { value: "#own", hidden: true }, "Your own function"),
  );
  const text = h("input", {
    id: "function",
    type: "text",
    spellcheck: "false",
    autocomplete: "off",
    autocapitalize: "off",
    maxlength: "400",
    "aria-label": "f(x, y)",
    "aria-describedby": "function-error",
  });
  const error = h("div", { id: "function-error", role: "status" });
  const teaches = h("p", { id: "teaches" });
  const theme = h("button", { type: "button", id: "theme", class: "quiet", onclick: nextTheme });
  fill(
    root,
    h("h1", {}, h("span", {}, "rmsprop"), " lab"),
    h("div", { class: "scene-pick" }, scenes),
    h(
      "div",
      { class: "function" },
      h("span", { class: "function-name", "aria-hidden": "true" }, "f(x, y) ="),
      text,
      error,
    ),
    h(
      "div",
      { class: "actions" },
      h("button", { type: "button", id: "share", class: "quiet", onclick: openShare }, "Share"),
      h("button", { type: "button", id: "export", class: "quiet", onclick: openExport }, "Export"),
      theme,
    ),
    teaches,
  );
  scenes.addEventListener("change", () => {
    const scene = app.catalog.scenes.find((each) => each.name === scenes.value);
    app.play(false);
    const { tab } = app.state;
    if (scene) app.load({ ...ofScene(scene, app.state.runs), tab }, Number.POSITIVE_INFINITY);
    else if (scenes.value === "#hinton") app.load({ ...hinton(), tab }, Number.POSITIVE_INFINITY);
  });
  text.addEventListener("input", () => {
    if (text.value.trim()) app.change({ text: text.value }, true);
  });
  const showScene = () => {
    const { noise } = app.state;
    scenes.value = noise.kind === "hinton" ? "#hinton" : (app.scene?.name ?? "#own");
    const caption =
      noise.kind === "hinton"
        ? "The sum of the ten gradients is 0; dividing each by its own size (rho 0, as rprop does) makes the weight drift."
        : (app.scene?.teaches ?? "Your own function: its gradient is exact, and the text is never executed as code.");
    teaches.textContent = missing(caption, app.state.runs).length ? "" : caption;
  };
  app.on(["state"], () => {
    text.value = app.state.text;
    showScene();
  });
  app.on(["result"], showScene);
  app.on(["error"], () => {
    const column = app.error?.column ?? null;
    text.setAttribute("aria-invalid", String(column !== null));
    if (app.error && column !== null) {
      const before = h("span", { class: "before" }, text.value.slice(0, column));
      fill(
        error,
        h("div", { class: "caret" }, before, h("b", {}, "▲")),
        h("div", { class: "reason" }, app.error.message),
      );
    } else fill(error);
    app.say(app.error && column === null ? app.error.message : "");
    showScene();
  });
  app.on(["theme"], () => {
    theme.textContent = { auto: "Auto", light: "Light", dark: "Dark" }[chosen];
    theme.setAttribute("aria-label", `Theme: ${chosen}. Change`);
  });
}

type Theme = "auto" | "light" | "dark";
let chosen: Theme = "auto";
const system = matchMedia("(prefers-color-scheme: dark)");

function apply(): void {
  document.documentElement.dataset.theme = chosen === "auto" ? (system.matches ? "dark" : "light") : chosen;
  app.emit("theme");
}

function nextTheme(): void {
  chosen = ({ auto: "light", light: "dark", dark: "auto" } as const)[chosen];
  try {
    localStorage.setItem("theme", chosen);
  } catch {
    // A page opened from a file may have no storage; the choice then lasts as long as the page.
  }
  apply();
}

export function theme(): void {
  try {
    const kept = localStorage.getItem("theme");
    if (kept === "light" || kept === "dark") chosen = kept;
  } catch {
    // As above.
  }
  system.addEventListener("change", apply);
  apply();
}
