// The worker that computes. One request after another, but a long one pauses for those that come meanwhile.
import type { Answer, Request, Run, RunSetting, State } from "../types";
import { basins } from "./basins";
import { functionOf, rates, sceneOf, surface, sweep, walk } from "./experiment";
import { writeNotes } from "./notes";
import { ExpressionError } from "./parse";
import { writeCommand, writePython } from "./script";

/** Milliseconds of one part of a long computation. */
const PART = 8;
const MOST_RUNS = 32;

/** Runs that were computed: moving one slider changes only one. */
const runs = new Map<string, Run>();

function walkCached(state: State, setting: RunSetting): Run {
  const { text, start, steps, noise, domain } = state;
  const key = JSON.stringify([text, start, steps, noise, domain, setting]);
  const run = runs.get(key) ?? walk(state, setting);
  runs.delete(key);
  runs.set(key, run);
  if (runs.size > MOST_RUNS) runs.delete(runs.keys().next().value!);
  return run;
}

/** Answer a request. */
export async function answer(request: Request, pause: () => Promise<void>): Promise<unknown> {
  if (request.kind === "surface") return surface(request.text, request.domain, request.cells);
  const { state } = request;
  switch (request.kind) {
    case "run": {
      const found = state.runs.map((setting) => walkCached(state, setting));
      const lowest = sceneOf(functionOf(state.text))?.minimum ?? null;
      const texts = { python: writePython(state), command: writeCommand(state) };
      return { runs: found, notes: writeNotes(found, lowest), steps: state.steps, ...texts };
    }
    case "sweep":
      return sweep(state, state.runs[0]!, request.name, pause);
    case "rates":
      return rates(state, state.runs[0]!, request.lr, pause);
    case "basins":
      return basins(state, state.runs[0]!, pause);
  }
}

class Cancelled extends Error {}

interface Scope {
  onmessage: ((event: MessageEvent<{ id: number; request?: Request }>) => void) | null;
  postMessage(reply: Answer): void;
}

/** Answer the messages of the page: {id, request}, or {id} alone to cancel. */
function serve(scope: Scope): void {
  const open = new Set<number>();
  const channel = new MessageChannel();
  const waiting: (() => void)[] = [];
  channel.port1.onmessage = () => waiting.shift()?.();
  // A timer would wait 4 ms each time.
  const yieldOnce = () =>
    new Promise<void>((done) => {
      waiting.push(done);
      channel.port2.postMessage(null);
    });
  scope.onmessage = async ({ data }) => {
    const { id, request } = data;
    if (!request) {
      open.delete(id);
      return;
    }
    open.add(id);
    let began = performance.now();
    const pause = async () => {
      if (performance.now() - began < PART) return;
      await yieldOnce();
      began = performance.now();
      if (!open.has(id)) throw new Cancelled();
    };
    let reply: Answer;
    try {
      reply = { id, value: await answer(request, pause) };
    } catch (error) {
      if (error instanceof Cancelled) return;
      const column = error instanceof ExpressionError ? error.column : null;
      reply = { id, error: { message: error instanceof Error ? error.message : String(error), column } };
    }
    if (open.delete(id)) scope.postMessage(reply);
  };
}

// The tests import `answer` outside of any worker.
if (typeof self !== "undefined" && typeof document === "undefined") serve(self as unknown as Scope);
