// The lower half: one panel at a time, chosen by tabs.

import { apart } from "./apart";
import { app } from "./app";
import { curves } from "./curves";
import { fill, h } from "./dom";
import { basins, heat } from "./maps";
import { notes, table } from "./readings";
import { steps } from "./steps";

export function dock(root: HTMLElement): void {
  const panels: [string, string, () => HTMLElement][] = [
    ["curves", "Curves", curves],
    ["steps", "Step by step", steps],
    ["heat", "Heat map", heat],
    ["basins", "Basins", basins],
    ["apart", "Dialects", apart],
    ["notes", "Notes", notes],
    ["table", "Table", table],
  ];
  const tabs = panels.map(([name, title]) =>
    h(
      "button",
      {
        type: "button",
        role: "tab",
        id: `tab-${name}`,
        "aria-controls": `panel-${name}`,
        onclick: () => choose(name),
      },
      title,
    ),
  );
  const list = h("div", { role: "tablist", "aria-label": "Panels" }, ...tabs);
  list.addEventListener("keydown", (event) => {
    const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!by) return;
    event.preventDefault();
    const now = panels.findIndex(([name]) => name === app.state.tab);
    const next = (now + by + panels.length) % panels.length;
    choose(panels[next]![0]);
    tabs[next]!.focus();
  });
  const bodies: HTMLElement[] = [];
  // Before the panels' own listeners: they draw only when they can be seen.
  app.on(["tab"], () => {
    for (const [i, [name]] of panels.entries()) {
      const on = name === app.state.tab;
      tabs[i]!.setAttribute("aria-selected", String(on));
      tabs[i]!.tabIndex = on ? 0 : -1;
      bodies[i]!.hidden = !on;
    }
  });
  bodies.push(
    ...panels.map(([name, , make]) =>
      h("div", { role: "tabpanel", id: `panel-${name}`, "aria-labelledby": `tab-${name}`, hidden: true }, make()),
    ),
  );
  const squares = h("input", { type: "checkbox", id: "squares-on", checked: true });
  squares.addEventListener("change", () => {
    app.squares = squares.checked;
    app.emit("time");
  });
  fill(
    root,
    h(
      "div",
      { class: "dock-top" },
      list,
      h("label", { class: "flag", for: "squares-on" }, squares, "squares on the balls"),
    ),
    ...bodies,
  );

  const choose = (name: string) => {
    app.state.tab = name;
    app.emit("tab");
    app.remember();
  };
}
