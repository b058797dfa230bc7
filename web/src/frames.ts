// Frames for pictures and films: the map, the surface or both, with a title, a legend and the step.
import { app, nameOf } from "./app";
import { drawContour } from "./contour";
import { flat, show } from "./dom";
import { colorOf, shapeOf, trace } from "./look";
import { drawSurface } from "./surface";

export type Content = "map" | "surface" | "both";

const HEAD = 34;
const FOOT = 30;

/** Draw one frame of the run at a time onto a canvas of width x height pixels. */
export function drawFrame(
  canvas: HTMLCanvasElement,
  width: number,
  height: number,
  ratio: number,
  time: number,
  content: Content,
): void {
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  const context = flat(canvas);
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.fillStyle = "#0c1322";
  context.fillRect(0, 0, width, height);
  const room = height - HEAD - FOOT;
  const half = content === "both" ? Math.floor((width - 4) / 2) : width;
  const part = (x: number, draw: (w: number, h: number) => void) => {
    context.save();
    context.setTransform(ratio, 0, 0, ratio, x * ratio, HEAD * ratio);
    draw(half, room);
    context.restore();
  };
  if (content !== "surface") part(0, (w, h) => drawContour(context, { width: w, height: h, ratio }, time));
  if (content !== "map") part(content === "both" ? half + 4 : 0, (w, h) => drawSurface(context, w, h, time));
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.fillStyle = "#0c1322";
  context.fillRect(0, 0, width, HEAD);
  context.fillRect(0, height - FOOT, width, FOOT);
  context.font = "600 14px 'IBM Plex Sans', sans-serif";
  context.fillStyle = "#e6e9ef";
  context.textAlign = "left";
  context.fillText(shorten(context, `f(x, y) = ${app.state.text}`, width - 120), 12, 22);
  context.textAlign = "right";
  context.fillText(`step ${Math.floor(time + 1e-9)}`, width - 12, 22);
  context.textAlign = "left";
  context.font = "12px 'IBM Plex Sans', sans-serif";
  let x = 12;
  for (const [i, run] of (app.result?.runs ?? []).entries()) {
    const label = `${nameOf(i)}  ${show(run.f[Math.min(run.steps, Math.floor(time))], 3)}`;
    const wide = context.measureText(label).width;
    if (x + wide + 30 > width) break;
    trace(context, shapeOf(i), x + 5, height - FOOT / 2, 5);
    context.fillStyle = colorOf(i, "stage");
    context.fill();
    context.fillText(label, x + 15, height - FOOT / 2 + 4);
    x += wide + 34;
  }
}

function shorten(context: CanvasRenderingContext2D, text: string, room: number): string {
  let shown = text;
  while (context.measureText(shown).width > room && shown.length > 8) shown = `${shown.slice(0, -2).trimEnd()}…`;
  return shown;
}

/** The times of a film: from the first to the last step, and a rest of a second at the end. */
export function times(seconds: number, fps: number): number[] {
  const count = Math.max(2, Math.round(seconds * fps));
  const rest = Math.min(Math.round(0.15 * count), fps);
  return Array.from({ length: count }, (_, i) => Math.min(app.end, (app.end * i) / (count - 1 - rest)));
}
