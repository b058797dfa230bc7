// GIF and MP4, made in the browser.

import { applyPalette, GIFEncoder, quantize } from "gifenc";
import { ArrayBufferTarget, Muxer } from "mp4-muxer";
import { flat } from "./dom";
import { type Content, drawFrame, times } from "./frames";

export interface Film {
  width: number;
  height: number;
  seconds: number;
  fps: number;
  content: Content;
  progress(part: number): void;
}

const breathe = () => new Promise((done) => setTimeout(done, 0));

/** The palette entry that stands for "as before". */
const SAME = 255;

/** One palette for all frames, chosen from five of them: smaller, quicker, and no flicker. */
export async function gif(film: Film): Promise<Blob> {
  const { width, height, content } = film;
  const canvas = document.createElement("canvas");
  const shots = times(film.seconds, film.fps);
  const pixels = (time: number) => {
    drawFrame(canvas, width, height, 1, time, content);
    return flat(canvas).getImageData(0, 0, width, height).data;
  };
  const picks = [0, 0.25, 0.5, 0.75, 1].map((part) => shots[Math.round(part * (shots.length - 1))]!);
  const sample = new Uint8ClampedArray(picks.length * Math.ceil((width * height) / 7) * 4);
  let filled = 0;
  for (const time of picks) {
    const data = pixels(time);
    for (let i = 0; i < data.length; i += 28) {
      sample.set(data.subarray(i, i + 4), filled);
      filled += 4;
    }
  }
  const palette = quantize(sample.subarray(0, filled), SAME, { format: "rgb565" });
  while (palette.length <= SAME) palette.push([0, 0, 0]);
  const encoder = GIFEncoder({ initialCapacity: 1 << 20 });
  // GIF counts in hundredths of a second; browsers slow down anything under two of them.
  const delay = Math.max(20, Math.round(100 / film.fps) * 10);
  const lookup = nearestByColor(palette.slice(0, SAME));
  let before: Uint32Array | null = null;
  for (const [i, time] of shots.entries()) {
    const data = pixels(time);
    const now = new Uint32Array(data.buffer, data.byteOffset, width * height);
    const first = before === null;
    encoder.writeFrame(lookup(now, before), width, height, {
      delay,
      transparent: !first,
      transparentIndex: SAME,
      dispose: 1,
      ...(first ? { palette, repeat: 0 } : {}),
    });
    before = now;
    if (i % 8 === 0) {
      film.progress(i / shots.length);
      await breathe();
    }
  }
  encoder.finish();
  return new Blob([encoder.bytes()], { type: "image/gif" });
}

/**
 * The palette's nearest entry for every pixel, remembered for each of the 65,536 colors of 16 bits;
 * where a pixel is as before, `SAME`: most of every frame.
 */
function nearestByColor(palette: number[][]): (now: Uint32Array, before: Uint32Array | null) => Uint8Array {
  const known = new Int16Array(65_536).fill(-1);
  const pixel = new Uint8Array(4);
  return (now, before) => {
    const index = new Uint8Array(now.length);
    for (let i = 0; i < now.length; i += 1) {
      const word = now[i]!;
      if (before && word === before[i]) {
        index[i] = SAME;
        continue;
      }
      const short = ((word & 0xf8) << 8) | ((word & 0xfc00) >> 5) | ((word & 0xf80000) >> 19);
      let entry = known[short]!;
      if (entry < 0) {
        pixel.set([word & 255, (word >> 8) & 255, (word >> 16) & 255, 255]);
        entry = applyPalette(pixel, palette, "rgb565")[0]!;
        known[short] = entry;
      }
      index[i] = entry;
    }
    return index;
  };
}

export const canFilm = (): boolean => "VideoEncoder" in globalThis;

export async function mp4(film: Film): Promise<Blob> {
  if (!canFilm()) throw new Error("This browser cannot encode video; choose GIF instead.");
  // H.264 wants even sides.
  const width = film.width & ~1;
  const height = film.height & ~1;
  const config: VideoEncoderConfig = { codec: "avc1.640028", width, height, bitrate: 4_000_000, framerate: film.fps };
  const support = await VideoEncoder.isConfigSupported(config);
  if (!support.supported) throw new Error("This browser cannot encode H.264; choose GIF instead.");
  const muxer = new Muxer({
    target: new ArrayBufferTarget(),
    video: { codec: "avc", width, height, frameRate: film.fps },
    fastStart: "in-memory",
  });
  let failure: Error | null = null;
  const encoder = new VideoEncoder({
    output: (chunk, meta) => muxer.addVideoChunk(chunk, meta),
    error: (error) => {
      failure = error;
    },
  });
  encoder.configure(config);
  const canvas = document.createElement("canvas");
  const shots = times(film.seconds, film.fps);
  for (const [i, time] of shots.entries()) {
    if (failure) throw failure;
    drawFrame(canvas, width, height, 1, time, film.content);
    const frame = new VideoFrame(canvas, { timestamp: (i * 1e6) / film.fps, duration: 1e6 / film.fps });
    encoder.encode(frame, { keyFrame: i % (2 * film.fps) === 0 });
    frame.close();
    if (i % 8 === 0) {
      film.progress(i / shots.length);
      await breathe();
    }
  }
  await encoder.flush();
  if (failure) throw failure;
  muxer.finalize();
  return new Blob([muxer.target.buffer], { type: "video/mp4" });
}
