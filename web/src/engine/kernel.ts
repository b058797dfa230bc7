// The library's kernel as WebAssembly: cpp/wasm/lab.cpp.
import bytes from "kernel:wasm";
import type { Rule } from "../types";
import { integerPower } from "./power";
import { startOf } from "./rule";

export const MOST_POINTS = 64 * 64;

interface Exports {
  memory: WebAssembly.Memory;
  choose(
    varFloor: number,
    momentum: number,
    decay: number,
    epsMode: number,
    buffer: number,
    decayMode: number,
    centered: number,
    nesterov: number,
    maximize: number,
  ): void;
  step(columns: number, rows: number, points: number, first: number): void;
}

// In the order of the enumerations of cpp/border/rule.hpp.
const EPS_MODES = ["outside", "inside", "max"];
const BUFFERS = ["none", "unit", "lr"];
const DECAYS = ["none", "l2", "decoupled", "decoupled_corrected", "in_buffer"];

const kernel = new WebAssembly.Instance(new WebAssembly.Module(bytes)).exports as unknown as Exports;
const view = (name: string, length: number) =>
  new Float64Array(kernel.memory.buffer, (kernel as unknown as Record<string, () => number>)[name]!(), length);
const [param, grad, square, mean, buffer] = ["param", "grad", "square", "mean", "buffer"].map((name) =>
  view(name, 2 * MOST_POINTS),
) as [Float64Array, Float64Array, Float64Array, Float64Array, Float64Array];
const [lrs, rhos, fresh, epsilons] = ["lr", "rho", "fresh", "eps"].map((name) => view(name, 64)) as [
  Float64Array,
  Float64Array,
  Float64Array,
  Float64Array,
];
let owner: Kernel | null = null;

/** RMSprop at a grid of points, x of all before y of all: a learning rate for each column, rho and eps for each row. */
export class Kernel {
  private readonly arrays: Float64Array[];
  private readonly choice: Parameters<Exports["choose"]>;
  private kept: Float64Array[] | null = null;

  constructor(
    private readonly rule: Rule,
    private readonly lr: ArrayLike<number>,
    private readonly rho: ArrayLike<number>,
    private readonly eps: ArrayLike<number>,
    private readonly points: number,
  ) {
    const size = 2 * lr.length * rho.length * points;
    this.choice = [
      Number(rule.var_floor),
      Number(rule.momentum),
      Number(rule.weight_decay),
      EPS_MODES.indexOf(String(rule.eps_mode)),
      BUFFERS.indexOf(String(rule.buffer)),
      DECAYS.indexOf(String(rule.weight_decay_mode)),
      Number(rule.centered),
      Number(rule.nesterov === "post"),
      Number(rule.maximize),
    ];
    this.arrays = [param, grad, square, mean, buffer].map((array) => array.subarray(0, size));
    this.claim();
    for (const array of this.arrays) array.fill(0);
    for (let i = 0; i < size; i += 1) square[i] = startOf(rule, eps[Math.floor(i / points) % rho.length]!);
  }

  /** The module has one set of arrays: put those of another run aside, and take back what this one left. */
  claim(): Float64Array[] {
    if (owner !== this) {
      if (owner) owner.kept = owner.arrays.map((array) => array.slice());
      for (const [i, array] of (this.kept ?? []).entries()) this.arrays[i]!.set(array);
      owner = this;
    }
    return this.arrays;
  }

  /** Do step t, counted from 1, after `claim`. */
  step(t: number): void {
    lrs.set(this.lr);
    epsilons.set(this.eps);
    for (let row = 0; row < this.rho.length; row += 1) {
      [rhos[row], fresh[row]] = decay(this.rho[row]!, this.rule.bias_correction ? t : null) as [number, number];
    }
    kernel.choose(...this.choice);
    const isFirst = Boolean(this.rule.centered && this.rule.bias_correction) && t === 1;
    kernel.step(this.lr.length, this.rho.length, this.points, Number(isFirst));
  }
}

/** rho_t and 1 - rho_t with bias correction; without a step, rho and 1 - rho. */
function decay(rho: number, step: number | null): [number, number] {
  if (step === null) return [rho, 1 - rho];
  const fresh = (1 - rho) / (1 - integerPower(rho, step));
  return [1 - fresh, fresh];
}
