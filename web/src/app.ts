// The one place that knows everything: state, results, time. Views listen.
import * as api from "./api";
import { clamp } from "./dom";
import { type Height, heightOf } from "./height";
import { optimizerOf } from "./optimizers";
import * as states from "./state";
import type { Catalog, Result, Run, Scene, State, Surface } from "./types";

type Event = "state" | "result" | "surface" | "time" | "hover" | "theme" | "message" | "playing" | "tab" | "error";

class App {
  catalog!: Catalog;
  state!: State;
  result: Result | null = null;
  surface: Surface | null = null;
  height: Height | null = null;
  /** Steps done, with a fraction while playing. */
  time = 0;
  hover: number | null = null;
  playing = false;
  loop = false;
  speed = 1;
  squares = true;
  error: api.Refused | null = null;
  message = "";
  /** Counts answers, for whoever waits for the next one. */
  answers = 0;
  private listeners = new Map<Event, (() => void)[]>();
  private flight: AbortController | null = null;
  private pictureFlight: AbortController | null = null;
  private pictured = "";
  private timer = 0;

  on(events: Event[], listener: () => void): void {
    for (const event of events) this.listeners.set(event, [...(this.listeners.get(event) ?? []), listener]);
  }

  emit(event: Event): void {
    for (const listener of this.listeners.get(event) ?? []) listener();
  }

  get scene(): Scene | null {
    return this.catalog.scenes.find((scene) => scene.text === this.state.text) ?? null;
  }

  /** The last step that any run reached. */
  get end(): number {
    return this.result ? Math.max(1, ...this.result.runs.map((run) => run.steps)) : 1;
  }

  /** Whole steps done. */
  get step(): number {
    return Math.min(this.end, Math.floor(this.time + 1e-9));
  }

  /** Replace the state and run. */
  load(state: State, time = 0): void {
    this.state = state;
    this.time = time;
    this.emit("state");
    this.emit("tab");
    this.rerun();
  }

  /** Change something and run; what changes while an answer is awaited is one run. */
  change(change: Partial<State>, quiet = false): void {
    Object.assign(this.state, change);
    if (!quiet) this.emit("state");
    this.rerun();
  }

  rerun(): void {
    clearTimeout(this.timer);
    // The first change goes at once; those of a drag wait for each other, as long as an answer is under way.
    this.timer = window.setTimeout(() => void this.fetch(), this.flight ? 15 : 0);
  }

  private async fetch(): Promise<void> {
    this.flight?.abort();
    const flight = new AbortController();
    this.flight = flight;
    const atEnd = this.result !== null && this.time >= this.end;
    void this.picture();
    try {
      const result = await api.run(this.state, flight.signal);
      if (flight.signal.aborted) return;
      this.flight = null;
      this.result = result;
      this.error = null;
      this.time = atEnd ? this.end : Math.min(this.time, this.end);
      this.emit("result");
      this.emit("time");
    } catch (error) {
      if (flight.signal.aborted) return;
      this.flight = null;
      this.error = error instanceof api.Refused ? error : new api.Refused(String(error), null);
    }
    this.answers += 1;
    this.emit("error");
    this.remember();
  }

  private async picture(): Promise<void> {
    const key = JSON.stringify([this.state.text, this.state.domain]);
    if (key === this.pictured) return;
    this.pictureFlight?.abort();
    const flight = new AbortController();
    this.pictureFlight = flight;
    try {
      const surface = await api.surface(this.state.text, structuredClone(this.state.domain), flight.signal);
      if (flight.signal.aborted) return;
      this.pictured = key;
      this.surface = surface;
      this.height = heightOf(surface, this.scene?.log_scale ?? null);
      this.emit("surface");
    } catch {
      // The run's own answer says what is wrong with the function.
    }
  }

  seek(time: number): void {
    this.time = clamp(time, 0, this.end);
    this.emit("time");
  }

  play(on: boolean): void {
    if (on === this.playing) return;
    this.playing = on;
    if (on && this.time >= this.end) this.time = 0;
    if (!on) this.time = this.step;
    this.emit("playing");
    this.emit("time");
    if (!on) {
      this.remember();
      return;
    }
    let before = performance.now();
    const frame = (now: number) => {
      if (!this.playing) return;
      const rate = clamp(this.end / 8, 4, 120) * this.speed;
      let time = this.time + ((now - before) / 1000) * rate;
      before = now;
      if (time >= this.end) {
        if (this.loop) time %= this.end;
        else {
          this.time = this.end;
          this.play(false);
          return;
        }
      }
      this.seek(time);
      requestAnimationFrame(frame);
    };
    requestAnimationFrame(frame);
  }

  say(message: string): void {
    this.message = message;
    this.emit("message");
  }

  /** Keep the state in the address, so that a reload and a copied link restore it. */
  remember(): void {
    this.state.step = this.step;
    try {
      history.replaceState(null, "", states.toHash(this.state));
    } catch {
      // A page inside another one may not change its address.
    }
  }

  link(): string {
    this.state.step = this.step;
    return `${location.origin}${location.pathname}${states.toHash(this.state)}`;
  }
}

export const app = new App();

/** Where a run is at a time between two steps; its end, once it is over. */
export function at(run: Run, time: number): [number, number] {
  const low = clamp(Math.floor(time + 1e-9), 0, run.steps);
  const high = Math.min(run.steps, low + 1);
  const part = clamp(time - low, 0, 1);
  const mix = (axis: 0 | 1) => run.x[2 * low + axis]! * (1 - part) + run.x[2 * high + axis]! * part;
  return part === 0 ? [run.x[2 * low]!, run.x[2 * low + 1]!] : [mix(0), mix(1)];
}

/** A run's name among its fellows: RMSprop, RMSprop (TensorFlow 1), Adam 2. */
export function nameOf(index: number): string {
  const runs = app.state.runs;
  const run = runs[index];
  if (!run) return "";
  const title = optimizerOf(run.optimizer)?.label ?? run.optimizer;
  const full = (each: (typeof runs)[number]) => `${each.optimizer} ${each.dialect ?? ""}`;
  const same = runs.filter((each) => full(each) === full(run));
  const number =
    same.length > 1 ? ` ${runs.slice(0, index + 1).filter((each) => full(each) === full(run)).length}` : "";
  return `${title}${run.dialect ? ` (${run.dialect})` : ""}${number}`;
}
