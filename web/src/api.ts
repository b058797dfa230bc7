// The server's calls. In a saved page there is no server: the answers lie in the page.
import type { Catalog, Note, Pair, Result, Run, RunAbout, State, Surface } from "./types";

export class Refused extends Error {
  constructor(
    message: string,
    readonly column: number | null,
  ) {
    super(message);
  }
}

export interface Saved {
  state: State;
  catalog: Catalog;
  run: string;
  surface: string;
}

interface Packed {
  about: Record<string, unknown>;
  arrays: Record<string, { values: Float64Array; shape: number[] }>;
}

/** What a single-file page carries, or null when a server stands behind the page. */
export const saved: Saved | null = (() => {
  const element = document.getElementById("saved");
  return element ? (JSON.parse(element.textContent ?? "null") as Saved | null) : null;
})();

/** The last answers as bytes, for the single-file page. */
export const last: { run: ArrayBuffer | null; surface: ArrayBuffer | null } = { run: null, surface: null };

function unpack(buffer: ArrayBuffer): Packed {
  const length = new DataView(buffer).getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
  const arrays: Packed["arrays"] = {};
  for (const [name, place] of Object.entries(header.arrays as Record<string, { at: number; shape: number[] }>)) {
    const count = place.shape.reduce((product, n) => product * n, 1);
    arrays[name] = { values: new Float64Array(buffer, 4 + length + place.at, count), shape: place.shape };
  }
  return { about: header, arrays };
}

async function post(name: string, body: unknown, signal?: AbortSignal): Promise<ArrayBuffer> {
  let response: Response;
  try {
    response = await fetch(`api/${name}`, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(body),
      ...(signal ? { signal } : {}),
    });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Refused("The lab's server does not answer. Is `rmsprop lab` still running?", null);
  }
  if (!response.ok) {
    const reply = await response.json().catch(() => null);
    throw new Refused(reply?.error?.message ?? `The server answered ${response.status}.`, reply?.error?.column ?? null);
  }
  return response.arrayBuffer();
}

const decode = (text: string): ArrayBuffer => Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer;

/** An experiment as the server takes it. */
export function experiment(state: State): Record<string, unknown> {
  const runs = state.runs.map(({ optimizer, lr, dialect, own }) =>
    optimizer === "rmsprop" ? { optimizer, lr, dialect, rule: own } : { optimizer, lr, ...own },
  );
  const { text, domain, start, steps, noise } = state;
  return { function: text, domain, start, steps, noise, runs };
}

export async function catalog(): Promise<Catalog> {
  if (saved) return saved.catalog;
  const response = await fetch("api/scenes");
  return response.json() as Promise<Catalog>;
}

export async function run(state: State, signal: AbortSignal): Promise<Result> {
  const buffer = saved ? decode(saved.run) : await post("run", experiment(state), signal);
  const { about, arrays } = unpack(buffer);
  last.run = buffer;
  const runs = (about.runs as RunAbout[]).map((each, i): Run => {
    const of = (name: string) => arrays[`${i}.${name}`]!.values;
    return {
      ...each,
      steps: of("f").length - 1,
      x: of("x"),
      f: of("f"),
      grad: of("grad"),
      statistic: of("statistic"),
      rate: of("rate"),
    };
  });
  return {
    runs,
    notes: about.notes as Note[],
    python: about.python as string,
    command: about.command as string | null,
    steps: about.steps as number,
  };
}

export async function surface(text: string, domain: [Pair, Pair], signal: AbortSignal): Promise<Surface> {
  const cells = 120;
  const buffer = saved ? decode(saved.surface) : await post("surface", { function: text, domain, cells }, signal);
  last.surface = buffer;
  return { domain, cells, f: unpack(buffer).arrays.f!.values };
}

export interface Heat {
  f: Float64Array;
  lr: Float64Array;
  other: Float64Array;
}

export async function sweep(state: State, index: number, name: "rho" | "eps"): Promise<Heat> {
  const body = { ...experiment({ ...state, runs: [state.runs[index]!] }), name, cells: 64 };
  const { arrays } = unpack(await post("sweep", { ...body, steps: Math.min(state.steps, 2000) }));
  return { f: arrays.f!.values, lr: arrays.lr!.values, other: arrays.other!.values };
}

export interface Basins {
  count: number;
  label: Float64Array;
  minima: Float64Array;
  share: number;
}

export async function starts(state: State, index: number): Promise<Basins> {
  const body = { ...experiment({ ...state, runs: [state.runs[index]!] }), count: 64 };
  const { about, arrays } = unpack(await post("starts", { ...body, steps: Math.min(state.steps, 1000) }));
  return {
    count: 64,
    label: arrays.label!.values,
    minima: arrays.minima!.values,
    share: about.share as number,
  };
}
