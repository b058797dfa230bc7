// Builds the page: one file that any server sends and any browser opens. `node build.mjs OUT` chooses the folder.
import { createHash } from "node:crypto";
import { mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { dirname, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import { fonts, made } from "./plugins.mjs";

const here = dirname(fileURLToPath(import.meta.url));
const out = resolve(process.argv[2] ?? resolve(here, "../src/rmsprop/lab/page"));

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

const { outputFiles } = await build({
  entryPoints: [resolve(here, "src/main.ts"), resolve(here, "src/style.css")],
  entryNames: "[name]",
  outdir: out,
  write: false,
  bundle: true,
  minify: true,
  format: "iife",
  target: "es2022",
  charset: "utf8",
  legalComments: "none",
  loader: { ".woff": "empty", ".ttf": "empty" },
  plugins: [made, fonts, katexStyle],
  logLevel: "warning",
});
const textOf = (name) => outputFiles.find(({ path }) => path.endsWith(name)).text.trim();
const script = textOf("main.js").replaceAll("</script", "<\\/script");
const style = textOf("style.css");
const icon = Buffer.from(await readFile(resolve(here, "src/icon.svg"))).toString("base64");
const hash = (text) => `'sha256-${createHash("sha256").update(text).digest("base64")}'`;
// Nothing is loaded from anywhere, and nothing runs but this script: an injected one has another hash.
const policy = [
  "default-src 'none'",
  `script-src ${hash(script)} 'wasm-unsafe-eval'`,
  "worker-src blob:",
  `style-src ${hash(style)}`,
  "img-src data: blob:",
  "font-src data:",
  "media-src blob:",
  "base-uri 'none'",
  "form-action 'none'",
].join("; ");
const page = Object.entries({
  'content="policy"': `content="${policy}"`,
  'href="icon"': `href="data:image/svg+xml;base64,${icon}"`,
  "<!-- style -->": `<style>${style}</style>`,
  "<!-- script -->": `<script>${script}</script>`,
}).reduce(
  (text, [mark, part]) => text.replace(mark, () => part),
  await readFile(resolve(here, "src/index.html"), "utf8"),
);
await rm(out, { recursive: true, force: true });
await mkdir(out, { recursive: true });
await writeFile(resolve(out, "index.html"), page);
