// What the page asks its worker to compute.
import tables from "tables:catalog";
import source from "worker:source";
import type { Answer, Basins, Catalog, Heat, Pair, Request, Result, State, Surface } from "./types";

export type { Basins, Heat };

export class Refused extends Error {
  constructor(
    message: string,
    readonly column: number | null,
  ) {
    super(message);
  }
}

/** The link whose state an exported page opens with, or null. */
export const saved = JSON.parse(document.getElementById("saved")?.textContent || "null") as string | null;

export const catalog: Catalog = tables;

const NO_KERNEL =
  "The lab computes with WebAssembly, which this browser lacks or has switched off: use another browser, or allow it in the settings.";

const waiting = new Map<number, { done(value: unknown): void; failed(error: Error): void }>();
let worker: Worker | null = null;
let asked = 0;

function start(): Worker {
  const started = new Worker(URL.createObjectURL(new Blob([source], { type: "text/javascript" })));
  started.onmessage = ({ data }: MessageEvent<Answer>) => {
    const { done, failed } = waiting.get(data.id) ?? {};
    waiting.delete(data.id);
    if ("error" in data) failed?.(new Refused(data.error.message, data.error.column));
    else done?.(data.value);
  };
  started.onerror = (event) => {
    for (const { failed } of waiting.values()) failed(new Refused(event.message || "The worker stopped.", null));
    waiting.clear();
  };
  return started;
}

function ask<T>(request: Request, signal?: AbortSignal): Promise<T> {
  if (typeof WebAssembly === "undefined") return Promise.reject(new Refused(NO_KERNEL, null));
  worker ??= start();
  asked += 1;
  const id = asked;
  worker.postMessage({ id, request });
  return new Promise((done, failed) => {
    waiting.set(id, { done: done as (value: unknown) => void, failed });
    signal?.addEventListener("abort", () => {
      if (!waiting.delete(id)) return;
      worker?.postMessage({ id });
      failed(new DOMException("Replaced by a newer one.", "AbortError"));
    });
  });
}

/** The state with one of its runs alone, and at most so many steps. */
const alone = (state: State, index: number, steps: number): State => ({
  ...state,
  runs: [state.runs[index]!],
  steps: Math.min(state.steps, steps),
});

export const run = (state: State, signal: AbortSignal): Promise<Result> => ask({ kind: "run", state }, signal);

export async function surface(text: string, domain: [Pair, Pair], signal: AbortSignal): Promise<Surface> {
  const cells = 120;
  return { domain, cells, f: await ask<Float64Array>({ kind: "surface", text, domain, cells }, signal) };
}

export const sweep = (state: State, index: number, name: "rho" | "eps", signal?: AbortSignal): Promise<Heat> =>
  ask({ kind: "sweep", state: alone(state, index, 2000), name }, signal);

export const starts = (state: State, index: number, signal?: AbortSignal): Promise<Basins> =>
  ask({ kind: "basins", state: alone(state, index, 1000) }, signal);

/** f after the last step for each of at most 64 learning rates, for any optimizer. */
export const rates = (state: State, index: number, lr: Float64Array, signal?: AbortSignal): Promise<Float64Array> =>
  ask({ kind: "rates", state: alone(state, index, state.steps), lr }, signal);
