// What build.mjs makes: the kernel, and Python's tables (src/rmsprop/lab/tables.py).
declare module "kernel:wasm" {
  const bytes: Uint8Array<ArrayBuffer>;
  export default bytes;
}

declare module "tables:data" {
  const tables: import("../types").Tables;
  export default tables;
}

declare module "tables:catalog" {
  const catalog: import("../types").Catalog;
  export default catalog;
}

declare module "worker:source" {
  const source: string;
  export default source;
}

declare module "formulas:data" {
  const formulas: Record<string, unknown>;
  export default formulas;
}
