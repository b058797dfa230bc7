// What the page imports and no file holds: the kernel, Python's tables, the worker, typeset formulas.
import { execFile } from "node:child_process";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { build } from "esbuild";
import { formulas } from "./formulas.mjs";

const here = dirname(fileURLToPath(import.meta.url));
const root = resolve(here, "..");
/** An interpreter with this library and ziglang, which is clang and a linker. */
const PYTHON = process.env.PYTHON ?? resolve(root, ".venv/bin/python");
const ZIG = [PYTHON, "-m", "ziglang"];

async function run(...words) {
  const [command, ...args] = words;
  return (await promisify(execFile)(command, args, { cwd: root, maxBuffer: 1 << 26 })).stdout;
}

/** The kernel as WebAssembly: no library, no contraction, so that the bits are those of the other builds. */
async function buildKernel() {
  const out = await mkdtemp(join(tmpdir(), "rmsprop-"));
  try {
    const flags = ["-std=c++17", "-O3", "-ffp-contract=off", "-fno-exceptions", "-fno-rtti", "-Wall", "-Wextra"];
    const object = join(out, "lab.o");
    await run(...ZIG, "c++", "-target", "wasm32-wasi", ...flags, "-c", "cpp/wasm/lab.cpp", "-o", object);
    await run(...ZIG, "wasm-ld", "--no-entry", "--strip-all", object, "-o", join(out, "lab.wasm"));
    return await readFile(join(out, "lab.wasm"));
  } finally {
    await rm(out, { recursive: true });
  }
}

async function buildWorker() {
  const { outputFiles } = await build({
    entryPoints: [resolve(here, "src/engine/worker.ts")],
    bundle: true,
    minify: true,
    format: "iife",
    target: "es2022",
    write: false,
    plugins: [made],
  });
  return outputFiles[0].text;
}

/** A font with these characters alone. */
async function subset(file, text) {
  const out = await mkdtemp(join(tmpdir(), "rmsprop-"));
  try {
    const options = [
      `--text=${text}`,
      "--flavor=woff2",
      "--no-hinting",
      "--layout-features=kern",
      `--output-file=${join(out, "font")}`,
    ];
    await run(PYTHON, "-m", "fontTools.subset", file, ...options);
    return await readFile(join(out, "font"));
  } finally {
    await rm(out, { recursive: true });
  }
}

const ASCII = Array.from({ length: 95 }, (_, i) => String.fromCharCode(32 + i)).join("");
const SIGNS = "−×…∞–·²³±°µ";

const textOf = (node) => (typeof node === "string" ? node : node.at(-1).map(textOf).join(""));

/** The fonts: the formulas' characters, or those of a text; others come from the reader's own fonts. */
export const fonts = {
  name: "fonts",
  setup(builder) {
    builder.onLoad({ filter: /\.woff2$/ }, async ({ path }) => {
      const text = /katex/.test(path) ? Object.values(formulas()).map(textOf).join("") : ASCII + SIGNS;
      return { contents: await subset(path, text), loader: "dataurl" };
    });
  },
};

const tables = () => run(PYTHON, "-m", "rmsprop.lab.tables");

/** What the page itself reads; the rest is the worker's. */
async function buildCatalog() {
  const { language, ziggurat, ...catalog } = JSON.parse(await tables());
  return JSON.stringify(catalog);
}

const MAKERS = {
  "kernel:wasm": [buildKernel, "binary"],
  "tables:data": [tables, "json"],
  "tables:catalog": [buildCatalog, "json"],
  "worker:source": [buildWorker, "text"],
  // KaTeX runs here, not in the browser: the page gets finished formulas as data.
  "formulas:data": [() => JSON.stringify(formulas()), "json"],
};
const contents = new Map();

export const made = {
  name: "made",
  setup(builder) {
    builder.onResolve({ filter: /^(kernel|tables|worker|formulas):/ }, ({ path }) => ({ path, namespace: "made" }));
    builder.onLoad({ filter: /.*/, namespace: "made" }, async ({ path }) => {
      const [make, loader] = MAKERS[path];
      if (!contents.has(path)) contents.set(path, make());
      return { contents: await contents.get(path), loader };
    });
  },
};
