// From the plane to pixels and back.
import { app } from "./app";
import { clamp } from "./dom";

export interface Frame {
  width: number;
  height: number;
  /** Device pixels per pixel. */
  ratio: number;
}

/** The middle part of a picture in which a unit of x is as long as one of y; a strip keeps an eighth of its length. */
export function isotropic(width: number, height: number): { left: number; top: number; width: number; height: number } {
  const [[left, right], [bottom, top]] = app.surface?.domain ?? app.state.domain;
  const ratio = clamp((right - left) / (top - bottom), 1 / 8, 8);
  const wide = Math.min(width, height * ratio);
  const high = Math.min(height, width / ratio);
  return { left: (width - wide) / 2, top: (height - high) / 2, width: wide, height: high };
}

/** Pixels of a point of the plane. */
export function toPixels(x: number, y: number, frame: Frame): [number, number] {
  const [[left, right], [bottom, top]] = app.surface?.domain ?? app.state.domain;
  return [((x - left) / (right - left)) * frame.width, ((top - y) / (top - bottom)) * frame.height];
}

export function fromPixels(px: number, py: number, frame: Frame): [number, number] {
  const [[left, right], [bottom, top]] = app.surface?.domain ?? app.state.domain;
  return [left + (px / frame.width) * (right - left), top - (py / frame.height) * (top - bottom)];
}
