// From values to heights and colors: the same scale for the contour and the surface.
import { clamp } from "./dom";
import type { Surface } from "./types";

export interface Height {
  /** 0 at the lowest value worth showing, 1 at the highest; NaN where the function has no finite value. */
  unit(value: number): number;
  logarithmic: boolean;
  low: number;
}

/** Quantiles, not extremes, so that one steep corner does not flatten the rest. */
export function heightOf(surface: Surface, logarithmic: boolean | null): Height {
  const sorted = surface.f.filter((value) => Number.isFinite(value)).sort();
  if (!sorted.length) return { unit: () => Number.NaN, logarithmic: false, low: 0 };
  const quantile = (share: number) => sorted[Math.round(share * (sorted.length - 1))]!;
  // The lowest value, unless a few points are far below all others.
  const low = Math.max(quantile(0), quantile(0.01) - 3 * (quantile(0.5) - quantile(0.01)));
  const high = quantile(0.98);
  const middle = quantile(0.5);
  const log = logarithmic ?? (high - low) / Math.max(middle - low, 1e-300) > 12;
  if (!log) {
    const range = high - low || 1;
    return {
      unit: (value) => (Number.isFinite(value) ? clamp((value - low) / range, 0, 1.02) : Number.NaN),
      logarithmic: false,
      low,
    };
  }
  const floor = Math.max(quantile(0.01) - low, (middle - low) * 2e-3, 1e-300);
  const top = Math.log1p((high - low) / floor);
  const unit = (value: number) =>
    Number.isFinite(value) ? clamp(Math.log1p(Math.max(0, value - low) / floor) / top, 0, 1.02) : Number.NaN;
  return { unit, logarithmic: true, low };
}

/** The value at a point, from the grid, between four neighbors; NaN outside. */
export function sample(surface: Surface, x: number, y: number): number {
  const { cells, f, domain } = surface;
  const u = ((x - domain[0][0]) / (domain[0][1] - domain[0][0])) * cells;
  const v = ((y - domain[1][0]) / (domain[1][1] - domain[1][0])) * cells;
  if (!(u >= 0 && v >= 0 && u <= cells && v <= cells)) return Number.NaN;
  const i = Math.min(cells - 1, Math.floor(u));
  const j = Math.min(cells - 1, Math.floor(v));
  const a = u - i;
  const b = v - j;
  const at = (column: number, row: number) => f[row * (cells + 1) + column]!;
  return (
    at(i, j) * (1 - a) * (1 - b) + at(i + 1, j) * a * (1 - b) + at(i, j + 1) * (1 - a) * b + at(i + 1, j + 1) * a * b
  );
}

const STOPS = ["#0a1020", "#12213c", "#193858", "#25546c", "#3a717c", "#5a8f8e"].map(rgb);

/** The color of a height, red, green and blue from 0 to 255; dark in the valleys, so that the paths shine there. */
export function color(unit: number): [number, number, number] {
  const place = clamp(unit, 0, 1) * (STOPS.length - 1);
  const i = Math.min(STOPS.length - 2, Math.floor(place));
  const part = place - i;
  const mix = (k: 0 | 1 | 2) => STOPS[i]![k] * (1 - part) + STOPS[i + 1]![k] * part;
  return [mix(0), mix(1), mix(2)];
}

export function rgb(hex: string): [number, number, number] {
  const n = Number.parseInt(hex.slice(1), 16);
  return [n >> 16, (n >> 8) & 255, n & 255];
}
