// The table of optimizers that the server sends once, for whoever draws or reads one.
import type { Optimizer } from "./types";

let table: Optimizer[] = [];

export function setOptimizers(optimizers: Optimizer[]): void {
  table = optimizers;
}

export const optimizerOf = (name: string): Optimizer | undefined => table.find((each) => each.name === name);
