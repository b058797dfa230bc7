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
    const objects = await Promise.all(
      ["wasm/lab", "border/rule"].map(async (name, i) => {
        await run(
          ...ZIG,
          "c++",
          "-target",
          "wasm32-wasi",
          ...flags,
          "-c",
          `cpp/${name}.cpp`,
          "-o",
          join(out, `${i}.o`),
        );
        return join(out, `${i}.o`);
      }),
    );
    await run(...ZIG, "wasm-ld", "--no-entry", "--strip-all", ...objects, "-o", join(out, "lab.wasm"));
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

const MAKERS = {
  "kernel:wasm": [buildKernel, "binary"],
  "tables:data": [() => run(PYTHON, "-m", "rmsprop.lab.tables"), "json"],
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
