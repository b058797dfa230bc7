// Puts the page together.
import * as api from "./api";
import { app } from "./app";
import { contour } from "./contour";
import { controls } from "./controls";
import { dock } from "./dock";
import { fill, h } from "./dom";
import { header, theme } from "./header";
import { heatEnds } from "./maps";
import { setOptimizers } from "./optimizers";
import { announce } from "./readings";
import { squaresOf } from "./squares";
import { fromHash, ofScene } from "./state";
import { surface } from "./surface";
import { timeline } from "./timeline";
import type { State } from "./types";

const at = (id: string): HTMLElement => document.getElementById(id)!;
const DEFAULT = "ravine";

/** The address's link, or the one that an exported page carries. */
const linkOf = () => (location.hash.length > 1 ? location.hash : (api.saved ?? ""));

/** The state of the link, or the default one and why. */
function first(): [State, string] {
  const scene = app.catalog.scenes.find((each) => each.name === DEFAULT)!;
  const link = linkOf();
  if (link.length < 2) return [ofScene(scene), ""];
  try {
    return [fromHash(link, app.catalog), ""];
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    return [ofScene(scene), `This link cannot be read (${why}); the ravine is shown instead.`];
  }
}

async function start(): Promise<void> {
  app.catalog = api.catalog;
  setOptimizers(app.catalog.optimizers);
  const [state, why] = first();
  app.state = state;
  let kept = why;
  app.on(["message"], () => {
    const text = app.message || kept;
    at("message").hidden = !text;
    fill(
      at("message"),
      h("span", {}, text),
      h(
        "button",
        {
          type: "button",
          class: "quiet",
          onclick: () => {
            kept = "";
            app.say("");
          },
        },
        "Dismiss",
      ),
    );
  });
  header(at("top"));
  controls(at("controls"));
  fill(at("views"), surface(), contour());
  dock(at("dock"));
  timeline(at("timeline"));
  announce(at("live"));
  theme();
  // The end is what a run is about: without a time in the link the cursor stands there.
  const hasTime = linkOf().includes("&t=");
  app.load(state, hasTime ? state.step : Number.POSITIVE_INFINITY);
  addEventListener("hashchange", () => {
    const [next, reason] = first();
    kept = reason;
    app.load(next, next.step);
  });
  await document.fonts.ready;
  app.emit("theme");
}

declare global {
  interface Window {
    /** For tests and screenshots: go to a time, look at what is shown. */
    __lab: {
      seek(time: number): void;
      app: typeof app;
      api: typeof api;
      squares(run: number): ReturnType<typeof squaresOf>;
      heatEnds: typeof heatEnds;
    };
  }
}
window.__lab = {
  seek: (time) => {
    app.play(false);
    app.seek(time);
  },
  app,
  api,
  heatEnds,
  squares: (run) => (app.result?.runs[run] ? squaresOf(app.result.runs[run], app.time) : null),
};

void start();
