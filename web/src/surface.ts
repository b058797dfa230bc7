// The surface in three dimensions. three.js draws the ground; paths and balls are drawn over it, dimmed where it hides them.
import {
  BufferAttribute,
  BufferGeometry,
  Color,
  LineBasicMaterial,
  LineSegments,
  Mesh,
  MeshBasicMaterial,
  PerspectiveCamera,
  Scene,
  SRGBColorSpace,
  Vector3,
  WebGLRenderer,
} from "three";
import { app, at } from "./app";
import { ball, levelLines, levelOf } from "./contour";
import { clamp, fit, flat, h, perFrame } from "./dom";
import { color, sample } from "./height";
import { colorOf } from "./look";
import type { Run } from "./types";

const TALL = 0.66;
const LIFT = 0.012;
const view = { turn: -0.8, tilt: 0.74, far: 2.95 };

let renderer: WebGLRenderer | null = null;
const scene = new Scene();
const camera = new PerspectiveCamera(32, 1, 0.1, 20);
let mesh: Mesh<BufferGeometry, MeshBasicMaterial> | null = null;
let levels: LineSegments<BufferGeometry, LineBasicMaterial> | null = null;
let meshOf: unknown = null;
let kept: { key: unknown[]; canvas: HTMLCanvasElement } | null = null;

/** Half the extent of the ground along x and y: the longer side is 1. */
function extent(): [number, number] {
  const [[left, right], [bottom, top]] = app.surface!.domain;
  const ratio = clamp((top - bottom) / (right - left), 0.45, 2.2);
  return ratio > 1 ? [1 / ratio, 1] : [1, ratio];
}

/** A point of the plane in the scene; the height may be given. */
function place(x: number, y: number, value?: number): Vector3 {
  const [[left, right], [bottom, top]] = app.surface!.domain;
  const [a, b] = extent();
  const unit = app.height!.unit(value ?? sample(app.surface!, x, y));
  return new Vector3(
    ((2 * (x - left)) / (right - left) - 1) * a,
    clamp(unit, 0, 1.02) * TALL - TALL / 2,
    (1 - (2 * (y - bottom)) / (top - bottom)) * b,
  );
}

function build(): void {
  if (meshOf === app.surface || !app.surface || !app.height) return;
  meshOf = app.surface;
  const side = app.surface.cells + 1;
  const positions = new Float32Array(3 * side * side);
  const colors = new Float32Array(3 * side * side);
  const [a, b] = extent();
  const heights = Float64Array.from(app.surface.f, (value) => clamp(app.height!.unit(value), 0, 1.02));
  const paint = new Color();
  for (let row = 0; row < side; row += 1) {
    for (let column = 0; column < side; column += 1) {
      const i = row * side + column;
      // A vertex of a hole belongs to no triangle.
      const up = heights[i]! || 0;
      positions.set(
        [((2 * column) / (side - 1) - 1) * a, up * TALL - TALL / 2, (1 - (2 * row) / (side - 1)) * b],
        3 * i,
      );
      // Light from the left, baked into the color: no lamp has to be computed per frame.
      const slope =
        heights[row * side + Math.min(side - 1, column + 1)]! - heights[row * side + Math.max(0, column - 1)]!;
      const along =
        heights[Math.min(side - 1, row + 1) * side + column]! - heights[Math.max(0, row - 1) * side + column]!;
      const light = clamp(1.06 - (slope || 0) * 5 + (along || 0) * 3, 0.62, 1.5);
      const [r, g, bl] = color(up);
      const f = light / 255;
      paint.setRGB(clamp(r * f + 0.015, 0, 1), clamp(g * f + 0.02, 0, 1), clamp(bl * f + 0.03, 0, 1), SRGBColorSpace);
      colors.set([paint.r, paint.g, paint.b], 3 * i);
    }
  }
  const index: number[] = [];
  for (let row = 0; row + 1 < side; row += 1) {
    for (let column = 0; column + 1 < side; column += 1) {
      const i = row * side + column;
      for (const triangle of [
        [i, i + 1, i + side],
        [i + 1, i + side + 1, i + side],
      ]) {
        if (!triangle.some((corner) => Number.isNaN(heights[corner]!))) index.push(...triangle);
      }
    }
  }
  const geometry = new BufferGeometry();
  geometry.setAttribute("position", new BufferAttribute(positions, 3));
  geometry.setAttribute("color", new BufferAttribute(colors, 3));
  geometry.setIndex(index);
  drawLevels(heights, side, a, b);
  if (mesh) {
    mesh.geometry.dispose();
    mesh.geometry = geometry;
  } else {
    mesh = new Mesh(geometry, new MeshBasicMaterial({ vertexColors: true, side: 2 }));
    scene.add(mesh);
  }
}

function drawLevels(heights: Float64Array, side: number, a: number, b: number): void {
  const points: number[] = [];
  for (const [k, line] of levelLines(heights, side).entries()) {
    const up = levelOf(k + 1) * TALL - TALL / 2 + 0.004;
    for (let i = 0; i < line.length; i += 2) {
      points.push(((2 * line[i]!) / (side - 1) - 1) * a, up, (1 - (2 * line[i + 1]!) / (side - 1)) * b);
    }
  }
  const geometry = new BufferGeometry();
  geometry.setAttribute("position", new BufferAttribute(new Float32Array(points), 3));
  if (levels) {
    levels.geometry.dispose();
    levels.geometry = geometry;
  } else {
    levels = new LineSegments(geometry, new LineBasicMaterial({ color: "#d6e8f0", transparent: true, opacity: 0.2 }));
    scene.add(levels);
  }
}

function aim(width: number, height: number): void {
  camera.aspect = width / height;
  const far = view.far * Math.hypot(...extent()) * Math.max(1, 1.38 / camera.aspect);
  camera.position.set(
    far * Math.cos(view.tilt) * Math.sin(view.turn),
    far * Math.sin(view.tilt),
    far * Math.cos(view.tilt) * Math.cos(view.turn),
  );
  camera.lookAt(0, -0.1, 0);
  camera.updateProjectionMatrix();
  camera.updateMatrixWorld();
}

/** Whether the ground lies between a point and the eye. */
function hidden(point: Vector3): boolean {
  const surface = app.surface!;
  const [[left, right], [bottom, top]] = surface.domain;
  const [a, b] = extent();
  for (let k = 1; k <= 24; k += 1) {
    const part = k * 0.035;
    const x = point.x + (camera.position.x - point.x) * part;
    const up = point.y + (camera.position.y - point.y) * part;
    const z = point.z + (camera.position.z - point.z) * part;
    if (Math.abs(x) > a || Math.abs(z) > b || up > TALL / 2) return false;
    const value = sample(
      surface,
      left + ((x / a + 1) / 2) * (right - left),
      bottom + ((1 - z / b) / 2) * (top - bottom),
    );
    if (app.height!.unit(value) * TALL - TALL / 2 > up + 0.02) return true;
  }
  return false;
}

/** Draw the frame: ground by three.js, then paths and balls on a flat canvas. */
export function drawSurface(context: CanvasRenderingContext2D, width: number, height: number, time: number): void {
  context.fillStyle = "#0a1020";
  context.fillRect(0, 0, width, height);
  if (!app.surface || !app.height || !renderer) return;
  build();
  aim(width, height);
  context.drawImage(ground(width, height, context.getTransform().a), 0, 0, width, height);
  paths(context, width, height, time);
}

/** The picture of the bare ground: drawn again only when the ground, the view or the size changes, not with time. */
function ground(width: number, height: number, ratio: number): HTMLCanvasElement {
  const key = [app.surface, width, height, ratio, view.turn, view.tilt, view.far];
  if (kept?.key.every((part, i) => part === key[i])) return kept.canvas;
  const canvas = kept?.canvas ?? document.createElement("canvas");
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  renderer!.setSize(canvas.width, canvas.height, false);
  renderer!.render(scene, camera);
  flat(canvas).drawImage(renderer!.domElement, 0, 0);
  kept = { key, canvas };
  return canvas;
}

/** A run's way over the ground on the screen: x, y and whether it is hidden, and where each step begins in it. */
interface Way {
  x: number[];
  y: number[];
  behind: boolean[];
  /** Whether a line leads here from the point before. */
  joined: boolean[];
  /** Of point t: its place in the lists above. */
  at: Int32Array;
}

let ways: { key: unknown[]; of: Way[] } = { key: [], of: [] };

function project(point: Vector3, width: number, height: number): [number, number] {
  const seen = point.project(camera);
  return [((seen.x + 1) / 2) * width, ((1 - seen.y) / 2) * height];
}

/** Laid out once for each run and view; moving through time only draws more or less of it. */
function wayOf(run: Run, width: number, height: number): Way {
  const [[left, right], [bottom, top]] = app.surface!.domain;
  const way: Way = { x: [], y: [], behind: [], joined: [], at: new Int32Array(run.steps + 1) };
  let from: [number, number] = [run.x[0]!, run.x[1]!];
  let joined = false;
  const add = (x: number, y: number) => {
    const point = place(x, y);
    if (!(x >= left && x <= right && y >= bottom && y <= top) || Number.isNaN(point.y)) {
      joined = false;
      return;
    }
    point.y += LIFT;
    way.behind.push(hidden(point));
    const [px, py] = project(point, width, height);
    way.x.push(px);
    way.y.push(py);
    way.joined.push(joined);
    joined = true;
  };
  add(...from);
  way.at[0] = way.x.length;
  for (let t = 1; t <= run.steps; t += 1) {
    const to: [number, number] = [run.x[2 * t]!, run.x[2 * t + 1]!];
    // A long step is bent over the ground.
    const far = Math.hypot((to[0] - from[0]) / (right - left), (to[1] - from[1]) / (top - bottom));
    const pieces = Number.isFinite(far) ? clamp(Math.ceil(far * 40), 1, 40) : 1;
    for (let k = 1; k <= pieces; k += 1) {
      add(from[0] + ((to[0] - from[0]) * k) / pieces, from[1] + ((to[1] - from[1]) * k) / pieces);
    }
    way.at[t] = way.x.length;
    from = to;
  }
  return way;
}

function paths(context: CanvasRenderingContext2D, width: number, height: number, time: number): void {
  const [[left, right], [bottom, top]] = app.surface!.domain;
  const runs = app.result?.runs ?? [];
  const key = [app.result, app.surface, width, height, view.turn, view.tilt, view.far];
  if (!ways.key.length || !ways.key.every((part, i) => part === key[i])) {
    ways = { key, of: runs.map((run) => wayOf(run, width, height)) };
  }
  context.lineCap = context.lineJoin = "round";
  for (const [i, run] of runs.entries()) {
    const way = ways.of[i]!;
    const tint = colorOf(i, "stage");
    context.strokeStyle = tint;
    const until = way.at[Math.min(run.steps, Math.floor(time + 1e-9))]!;
    for (const behind of [true, false]) {
      context.globalAlpha = behind ? 0.32 : 0.95;
      context.lineWidth = behind ? 1.2 : 2.2;
      context.beginPath();
      let drawing = false;
      for (let k = 1; k < until; k += 1) {
        const wanted = way.joined[k]! && way.behind[k] === behind;
        if (wanted && !drawing) context.moveTo(way.x[k - 1]!, way.y[k - 1]!);
        if (wanted) context.lineTo(way.x[k]!, way.y[k]!);
        drawing = wanted;
      }
      context.stroke();
    }
    const [x, y] = at(run, time);
    context.globalAlpha = 1;
    if (!(x >= left && x <= right && y >= bottom && y <= top)) continue;
    const point = place(x, y);
    if (Number.isNaN(point.y)) continue;
    point.y += 0.03;
    context.globalAlpha = hidden(point) ? 0.5 : 1;
    ball(context, i, ...project(point, width, height), 6.5, tint);
    context.globalAlpha = 1;
  }
}

export function surface(): HTMLElement {
  const canvas = h("canvas", {
    id: "surface",
    tabindex: "0",
    role: "img",
    "aria-label": "Surface in three dimensions with the paths. Arrow keys turn it, plus and minus zoom.",
  });
  const element = h("figure", { class: "view" }, canvas);
  try {
    renderer = new WebGLRenderer({ antialias: false, powerPreference: "low-power", preserveDrawingBuffer: false });
    renderer.setPixelRatio(1);
    renderer.setClearColor("#0a1020");
  } catch {
    element.append(h("p", { class: "view-hint" }, "This browser does not support WebGL; the map shows the same run."));
  }
  const paint = perFrame(() => {
    if (!canvas.clientWidth) return;
    const frame = fit(canvas);
    const context = flat(canvas);
    context.setTransform(frame.ratio, 0, 0, frame.ratio, 0, 0);
    drawSurface(context, frame.width, frame.height, app.time);
  });
  const turn = (right: number, up: number) => {
    view.turn -= right;
    view.tilt = clamp(view.tilt + up, 0.12, 1.5);
    paint();
  };
  const zoom = (factor: number) => {
    view.far = clamp(view.far * factor, 1.6, 8);
    paint();
  };
  let held: [number, number] | null = null;
  canvas.addEventListener("pointerdown", (event) => {
    held = [event.clientX, event.clientY];
    canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!held) return;
    turn((event.clientX - held[0]) * 0.008, (event.clientY - held[1]) * 0.006);
    held = [event.clientX, event.clientY];
  });
  for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, () => (held = null));
  canvas.addEventListener(
    "wheel",
    (event) => {
      if (!event.ctrlKey && document.activeElement !== canvas) return;
      event.preventDefault();
      zoom(event.deltaY > 0 ? 1.08 : 1 / 1.08);
    },
    { passive: false },
  );
  canvas.addEventListener("keydown", (event) => {
    const keys: Record<string, () => void> = {
      ArrowLeft: () => turn(-0.1, 0),
      ArrowRight: () => turn(0.1, 0),
      ArrowUp: () => turn(0, 0.08),
      ArrowDown: () => turn(0, -0.08),
      "+": () => zoom(1 / 1.15),
      "=": () => zoom(1 / 1.15),
      "-": () => zoom(1.15),
    };
    const work = keys[event.key];
    if (!work) return;
    work();
    event.preventDefault();
    event.stopPropagation();
  });
  new ResizeObserver(paint).observe(canvas);
  app.on(["time", "surface", "result", "theme"], paint);
  return element;
}
