// The value and the exact partial derivatives of a tree at many points: the rules of src/rmsprop/expression/dual.py.
//
// A dual number is a triple (u, du/dx, du/dy); null stands for a derivative that is zero whatever the point. What varies
// from point to point is a node of a tape, whose operations each go over a block of points; what does not is a number,
// computed once. + - * / and the square root are IEEE operations, so the bits are Python's; the other functions are the
// browser's, a few units in the last place away.
import type { Tree } from "./parse";

type Scalar = (a: number, b: number, c: number) => number;
type Loop = (out: Float64Array, a: Float64Array, b: Float64Array, c: Float64Array, n: number) => void;
interface Operation {
  id: number;
  of: Scalar;
  over: Loop;
}
interface Node {
  operation: Operation | null;
  inputs: (Node | number)[];
  id: number;
}
type Value = Node | number;
type Derivative = Value | null;
type Dual = [Value, Derivative, Derivative];

/** Points that one operation goes over before the next one: their columns stay in the cache. */
const BLOCK = 256;

let operations = 0;
function operation(of: Scalar, over?: Loop): Operation {
  operations += 1;
  const loop: Loop = (out, a, b, c, n) => {
    for (let i = 0; i < n; i += 1) out[i] = of(a[i]!, b[i]!, c[i]!);
  };
  return { id: operations, of, over: over ?? loop };
}

// The four that most operations are have loops of their own, which need no call.
const ADD = operation(
  (a, b) => a + b,
  (out, a, b, _, n) => {
    for (let i = 0; i < n; i += 1) out[i] = a[i]! + b[i]!;
  },
);
const MULTIPLY = operation(
  (a, b) => a * b,
  (out, a, b, _, n) => {
    for (let i = 0; i < n; i += 1) out[i] = a[i]! * b[i]!;
  },
);
const DIVIDE = operation(
  (a, b) => a / b,
  (out, a, b, _, n) => {
    for (let i = 0; i < n; i += 1) out[i] = a[i]! / b[i]!;
  },
);
const NEGATE = operation(
  (a) => -a,
  (out, a, _b, _c, n) => {
    for (let i = 0; i < n; i += 1) out[i] = -a[i]!;
  },
);
/** The result, but 0 where the derivative it was made from is 0 and the value is not NaN. */
const KEEP_ZEROS = operation(
  (derivative, result, f) => (derivative === 0 && !Number.isNaN(f) ? 0 : result),
  (out, a, b, c, n) => {
    for (let i = 0; i < n; i += 1) out[i] = a[i] === 0 && !Number.isNaN(c[i]!) ? 0 : b[i]!;
  },
);
const POWER = operation(power);
const POWER_BY_BASE = operation((u, n) => (n === 0 ? 0 : n * power(u, n - 1)));
const POWER_BY_EXPONENT = operation((u, n, f) => (u === 0 && n > 0 ? 0 : f * Math.log(u)));

/** C's pow: JavaScript's is NaN where C gives 1. */
function power(u: number, n: number): number {
  if (u === 1 || (u === -1 && Math.abs(n) === Number.POSITIVE_INFINITY)) return 1;
  return u ** n;
}

interface Lifted {
  value: Operation;
  /** f'(u), given u and f(u); null where it is zero everywhere. */
  slope: Operation | null;
  /** Whether f' is infinite at some point. */
  isSteep: boolean;
}

const lifted = (value: Scalar, slope: Scalar | null, isSteep = false): Lifted => ({
  value: operation(value),
  slope: slope && operation(slope),
  isSteep,
});

/** NumPy's: of a negative zero it is a positive one. */
const sign = (u: number) => Math.sign(u) + 0;
const sigmoid = (u: number) => {
  const decay = Math.exp(-Math.abs(u));
  return (u >= 0 ? 1 : decay) / (1 + decay);
};
const slopeOfSigmoid = (u: number) => {
  const decay = Math.exp(-Math.abs(u));
  return decay / ((1 + decay) * (1 + decay));
};
const slopeOfTanh = (u: number) => {
  const root = 1 / Math.cosh(u);
  return root * root;
};
const slopeOfLog = (u: number) => (u < 0 ? Number.NaN : 1 / Math.abs(u));
const softplus = (u: number) => (u === 0 ? Math.LN2 : u < 0 ? Math.log1p(Math.exp(u)) : u + Math.log1p(Math.exp(-u)));

const FUNCTIONS: Record<string, Lifted> = {
  sin: lifted(Math.sin, (u) => Math.cos(u)),
  cos: lifted(Math.cos, (u) => -Math.sin(u)),
  tan: lifted(Math.tan, (_, f) => 1 + f * f),
  asin: lifted(Math.asin, (u) => 1 / Math.sqrt((1 - u) * (1 + u)), true),
  acos: lifted(Math.acos, (u) => -1 / Math.sqrt((1 - u) * (1 + u)), true),
  atan: lifted(Math.atan, (u) => 1 / (1 + u * u)),
  sinh: lifted(Math.sinh, (u) => Math.cosh(u)),
  cosh: lifted(Math.cosh, (u) => Math.sinh(u)),
  tanh: lifted(Math.tanh, slopeOfTanh),
  exp: lifted(Math.exp, (_, f) => f),
  log: lifted(Math.log, slopeOfLog, true),
  log2: lifted(Math.log2, (u) => slopeOfLog(u) / Math.LN2, true),
  log10: lifted(Math.log10, (u) => slopeOfLog(u) / Math.LN10, true),
  sqrt: lifted(Math.sqrt, (_, f) => 0.5 / f, true),
  cbrt: lifted(Math.cbrt, (_, f) => 1 / (3 * f * f), true),
  abs: lifted(Math.abs, sign),
  sign: lifted(sign, null),
  floor: lifted(Math.floor, null),
  relu: lifted(
    (u) => Math.max(u, 0),
    (u) => (u > 0 ? 1 : u <= 0 ? 0 : Number.NaN),
  ),
  sigmoid: lifted(sigmoid, slopeOfSigmoid),
  softplus: lifted(softplus, sigmoid),
  gauss: lifted(
    (u) => Math.exp(-u * u),
    (u, f) => -2 * u * f,
  ),
};
const LONGEST_PRODUCT = 16;

/** f(x, y), ready to be evaluated at many points. */
export class Expression {
  private readonly x: Node = { operation: null, inputs: [], id: 0 };
  private readonly y: Node = { operation: null, inputs: [], id: 1 };
  private readonly nodes = new Map<string, Node>();
  private readonly dual: Dual;
  private readonly tapes: Tape[] = [];

  constructor(readonly tree: Tree) {
    this.dual = this.build(tree);
  }

  /** Write f at the first n points to `value` and its derivatives to `byX` and `byY`; null where not wanted. */
  evaluate(
    x: Float64Array,
    y: Float64Array,
    n: number,
    value: Float64Array | null,
    byX: Float64Array | null,
    byY: Float64Array | null,
  ): void {
    // A tape for each choice of results: what only the others need is left out.
    const choice = (value ? 1 : 0) + (byX ? 2 : 0) + (byY ? 4 : 0);
    const wanted = [value, byX, byY];
    this.tapes[choice] ??= new Tape(
      this.x,
      this.y,
      this.dual.map((node, i) => (wanted[i] ? (node ?? 0) : null)),
    );
    this.tapes[choice].run(x, y, wanted, n);
  }

  private build(tree: Tree): Dual {
    if (typeof tree === "number") return [tree, null, null];
    if (tree === "x") return [this.x, 1, null];
    if (tree === "y") return [this.y, null, 1];
    const [a, b] = tree.parts.map((part) => this.build(part)) as [Dual, Dual];
    switch (tree.name) {
      case "negate":
        return this.negate(a);
      case "+":
        return this.add(a, b);
      case "-":
        return this.add(a, this.negate(b));
      case "*":
        return this.multiply(a, b);
      case "/":
        return this.divide(a, b);
      case "^":
        return this.raise(a, b);
      default:
        return this.lift(FUNCTIONS[tree.name]!, a);
    }
  }

  /** An operation's result: a number where all of its inputs are, else a node; the same one for the same inputs. */
  private apply(operation: Operation, ...inputs: Value[]): Value {
    const [a, b = 0, c = 0] = inputs;
    if (inputs.every((input) => typeof input === "number")) return operation.of(a as number, b as number, c as number);
    if (operation === MULTIPLY && (a === 1 || b === 1)) return a === 1 ? b : a!;
    const names = inputs.map((input) =>
      typeof input === "object" ? `#${input.id}` : Object.is(input, -0) ? "-0" : `${input}`,
    );
    const key = `${operation.id} ${names.join(" ")}`;
    const found = this.nodes.get(key) ?? { operation, inputs, id: 2 + this.nodes.size };
    this.nodes.set(key, found);
    return found;
  }

  private negate([u, ux, uy]: Dual): Dual {
    const negative = (value: Derivative) => (value === null ? null : this.apply(NEGATE, value));
    return [this.apply(NEGATE, u), negative(ux), negative(uy)];
  }

  private add([u, ux, uy]: Dual, [v, vx, vy]: Dual): Dual {
    return [this.apply(ADD, u, v), this.plus(ux, vx), this.plus(uy, vy)];
  }

  private multiply([u, ux, uy]: Dual, [v, vx, vy]: Dual): Dual {
    const by = (du: Derivative, dv: Derivative) => this.plus(this.times(du, v), this.times(dv, u));
    return [this.apply(MULTIPLY, u, v), by(ux, vx), by(uy, vy)];
  }

  private divide([u, ux, uy]: Dual, [v, vx, vy]: Dual): Dual {
    const f = this.apply(DIVIDE, u, v);
    const minus = this.apply(NEGATE, f);
    const by = (du: Derivative, dv: Derivative) => {
      const over = this.plus(du, this.chain(dv, minus, f));
      return over === null ? null : this.apply(KEEP_ZEROS, over, this.apply(DIVIDE, over, v), f);
    };
    return [f, by(ux, vx), by(uy, vy)];
  }

  private raise(a: Dual, b: Dual): Dual {
    const [u, ux, uy] = a;
    const [n, nx, ny] = b;
    if (typeof n === "number" && nx === null && ny === null) {
      if (n === 0) return [1, null, null];
      if (n === 1) return a;
      const isProduct = Number.isInteger(n) && Math.abs(n) <= LONGEST_PRODUCT;
      const raise = (to: number) => (isProduct ? this.multiplyOut(u, to) : this.apply(POWER, u, to));
      const slope = this.apply(MULTIPLY, n, raise(n - 1));
      const f = raise(n);
      return n < 1
        ? [f, this.chain(ux, slope, f), this.chain(uy, slope, f)]
        : [f, this.times(ux, slope), this.times(uy, slope)];
    }
    const f = this.apply(POWER, u, n);
    const by = (du: Derivative, dn: Derivative) =>
      this.plus(
        du === null ? null : this.chain(du, this.apply(POWER_BY_BASE, u, n), f),
        dn === null ? null : this.chain(dn, this.apply(POWER_BY_EXPONENT, u, n, f), f),
      );
    return [f, by(ux, nx), by(uy, ny)];
  }

  /** u^n by squaring. */
  private multiplyOut(u: Value, n: number): Value {
    if (n < 0) return this.apply(DIVIDE, 1, this.multiplyOut(u, -n));
    let result: Value | null = null;
    let left = n;
    for (let square = u; ; square = this.apply(MULTIPLY, square, square)) {
      if (left & 1) result = result === null ? square : this.apply(MULTIPLY, result, square);
      left >>= 1;
      if (!left) return result!;
    }
  }

  private lift({ value, slope, isSteep }: Lifted, [u, ux, uy]: Dual): Dual {
    const f = this.apply(value, u);
    if (slope === null || (ux === null && uy === null)) return [f, null, null];
    const df = this.apply(slope, u, f);
    return isSteep ? [f, this.chain(ux, df, f), this.chain(uy, df, f)] : [f, this.times(ux, df), this.times(uy, df)];
  }

  private plus(a: Derivative, b: Derivative): Derivative {
    return a === null ? b : b === null ? a : this.apply(ADD, a, b);
  }

  private times(derivative: Derivative, factor: Value): Derivative {
    return derivative === null ? null : this.apply(MULTIPLY, derivative, factor);
  }

  private chain(derivative: Derivative, slope: Value, f: Value): Derivative {
    if (derivative === null) return null;
    return this.apply(KEEP_ZEROS, derivative, this.apply(MULTIPLY, derivative, slope), f);
  }
}

/** The operations that some results need, in order, each with its columns. */
class Tape {
  private readonly columns = new Map<Node, Float64Array>();
  private readonly steps: { over: Loop; out: Float64Array; a: Float64Array; b: Float64Array; c: Float64Array }[] = [];
  private readonly results: (Float64Array | null)[];

  constructor(
    private readonly x: Node,
    private readonly y: Node,
    results: (Value | null)[],
  ) {
    this.results = results.map((node) => (node === null ? null : this.columnOf(node)));
  }

  run(x: Float64Array, y: Float64Array, outs: (Float64Array | null)[], n: number): void {
    for (let from = 0; from < n; from += BLOCK) {
      const count = Math.min(BLOCK, n - from);
      copy(x, from, this.columns.get(this.x), 0, count);
      copy(y, from, this.columns.get(this.y), 0, count);
      for (const { over, out, a, b, c } of this.steps) over(out, a, b, c, count);
      for (let i = 0; i < outs.length; i += 1) copy(this.results[i], 0, outs[i], from, count);
    }
  }

  private columnOf(node: Value): Float64Array {
    if (typeof node === "number") return new Float64Array(BLOCK).fill(node);
    const found = this.columns.get(node);
    if (found) return found;
    const column = new Float64Array(BLOCK);
    if (node.operation) {
      const [a, b, c] = node.inputs.map((input) => this.columnOf(input));
      this.steps.push({ over: node.operation.over, out: column, a: a!, b: b ?? a!, c: c ?? a! });
    }
    this.columns.set(node, column);
    return column;
  }
}

function copy(
  source: Float64Array | null | undefined,
  from: number,
  target: Float64Array | null | undefined,
  to: number,
  count: number,
): void {
  if (!source || !target) return;
  for (let i = 0; i < count; i += 1) target[to + i] = source[from + i]!;
}
