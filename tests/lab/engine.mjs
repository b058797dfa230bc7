// The page's engine in Node: a JSON list of calls on standard input, the answers on standard output.
import { randomUUID } from "node:crypto";
import { rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

const web = resolve(dirname(fileURLToPath(import.meta.url)), "../../web");
const { build } = await import(pathToFileURL(join(web, "node_modules/esbuild/lib/main.js")));
const { made } = await import(pathToFileURL(join(web, "plugins.mjs")));
const outfile = join(tmpdir(), `engine-${randomUUID()}.mjs`);
await build({
  stdin: {
    contents: ["worker", "dual", "parse", "power", "random", "words"].map((name) => `export * from "./${name}";`).join("\n"),
    resolveDir: join(web, "src/engine"),
  },
  bundle: true,
  format: "esm",
  target: "es2022",
  outfile,
  plugins: [made],
  logLevel: "error",
});
const engine = await import(pathToFileURL(outfile));
await rm(outfile);

const evaluators = {
  request: (request) => engine.answer(request, async () => {}),
  /** f and its gradient at points, each alone. */
  expression: ({ text, points }) => {
    const f = new engine.Expression(engine.parse(text));
    const [x, y] = [0, 1].map((axis) => Float64Array.from(points, (point) => point[axis]));
    const [value, byX, byY] = [0, 1, 2].map(() => new Float64Array(points.length));
    f.evaluate(x, y, points.length, value, byX, byY);
    return { value, byX, byY };
  },
  power: ({ base, count }) => Float64Array.from({ length: count }, (_, i) => engine.integerPower(base, i + 1)),
  normal: ({ seed, count }) => engine.standardNormal(seed, count),
  words: ({ numbers, texts }) => ({ floats: numbers.map(engine.float), generals: numbers.map((n) => engine.general(n, 3)), quoted: texts.map(engine.quote) }),
};
const bytes = (_, value) =>
  value instanceof Float64Array ? { float64: Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString("base64") } : value;

let text = "";
for await (const part of process.stdin) text += part;
const answers = [];
for (const [kind, asked] of JSON.parse(text)) {
  try {
    answers.push({ value: await evaluators[kind](asked) });
  } catch (error) {
    answers.push({ error: { message: error.message, column: error.column ?? null } });
  }
}
process.stdout.write(JSON.stringify(answers, bytes));
