// Builds the page: one script, one style sheet, a few fonts, no other host. `node build.mjs OUT` chooses the folder.
import { copyFile, mkdir, readFile, rm } from "node:fs/promises";
import { dirname, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import { formulas } from "./formulas.mjs";

const here = dirname(fileURLToPath(import.meta.url));
const out = resolve(process.argv[2] ?? resolve(here, "../src/rmsprop/lab/page"));

// KaTeX runs here, not in the browser: the page gets finished formulas as data.
const prerendered = {
  name: "formulas",
  setup(builder) {
    builder.onResolve({ filter: /^formulas:data$/ }, () => ({ path: "data", namespace: "formulas" }));
    builder.onLoad({ filter: /.*/, namespace: "formulas" }, () => ({
      contents: JSON.stringify(formulas()),
      loader: "json",
    }));
  },
};

// The formulas use three of KaTeX's sixty font files; style.css declares those.
const katexStyle = {
  name: "katex-style",
  setup(builder) {
    builder.onLoad({ filter: /katex\.css$/ }, async ({ path }) => ({
      contents: (await readFile(path, "utf8")).replace(/@font-face\s*\{[^}]*\}/g, ""),
      loader: "css",
    }));
  },
};

await rm(out, { recursive: true, force: true });
await mkdir(out, { recursive: true });
await build({
  entryPoints: [resolve(here, "src/main.ts"), resolve(here, "src/style.css")],
  entryNames: "[name]",
  assetNames: "fonts/[name]",
  outdir: out,
  bundle: true,
  minify: true,
  format: "iife",
  target: "es2022",
  charset: "utf8",
  legalComments: "none",
  loader: { ".woff2": "file", ".woff": "empty", ".ttf": "empty" },
  plugins: [prerendered, katexStyle],
  logLevel: "warning",
});
await copyFile(resolve(here, "src/index.html"), resolve(out, "index.html"));
await copyFile(resolve(here, "src/icon.svg"), resolve(out, "icon.svg"));
