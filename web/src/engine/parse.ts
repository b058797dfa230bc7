// A typed function as a tree: the language, the errors and the columns of src/rmsprop/expression/parser.py.
import tables from "tables:data";
import { nearest, quote } from "./words";

const { functions, aliases, constants, hints } = tables.language;
const VARIABLES = ["x", "y"];
const MAX_LENGTH = 400;
const MAX_NODES = 300;
const MAX_DEPTH = 40;
const CALLABLE = [...functions, ...Object.keys(aliases)];
const TOKEN =
  /(?<number>(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)|(?<name>[xy](?=[xy]*\b)|[A-Za-z_][A-Za-z0-9_]*)|(?<operator>\*\*|[-+*/^()])|(?<unexpected>[^ \t\r\n])/gu;

export class ExpressionError extends Error {
  constructor(
    message: string,
    /** In UTF-16 units, from 0. */
    readonly column: number,
  ) {
    super(message);
  }
}

/** A number, a variable, a sign, an operator between two trees, or a function of one. */
export type Tree =
  | number
  | "x"
  | "y"
  | { name: "negate"; parts: [Tree] }
  | { name: "+" | "-" | "*" | "/" | "^"; parts: [Tree, Tree] }
  | { name: string; parts: [Tree] };

interface Token {
  kind: "number" | "name" | "operator" | "unexpected" | "end";
  text: string;
  column: number;
}

/** Read f(x, y), which may depend on x alone. Throws ExpressionError. */
export function parse(text: string): Tree {
  return new Reader(check(text)).read();
}

/** Check each token against the one before it; return them with known names alone and every `*` written. */
function check(text: string): Token[] {
  const checked: Token[] = [];
  let nodes = 0;
  // Inside the current parentheses: the last binary operator, how deep they are nested, and with the signs and
  // exponents since the last + - * /. The same three of each outer pair wait in `outer`.
  let [operator, level, depth] = ["", 0, 0];
  const outer: [Token, string, number, number][] = [];
  const fail = (message: string, { column }: { column: number }): never => {
    throw new ExpressionError(message, column);
  };
  const count = (token: Token) => {
    nodes += 1;
    if (nodes > MAX_NODES) fail(`more than ${MAX_NODES} numbers, names and operators`, token);
  };
  const nest = (token: Token, to: number) => {
    depth = to;
    if (depth > MAX_DEPTH) fail(`nested more than ${MAX_DEPTH} deep`, token);
  };
  const endValue = (token: Token) => {
    if (token.kind === "end") {
      if (outer.length) fail("this parenthesis is never closed", outer.at(-1)![0]);
    } else if (token.text === ")") {
      if (!outer.length) fail("this parenthesis closes nothing", token);
      [, operator, level, depth] = outer.pop()!;
      checked.push(token);
    } else {
      count(token);
      operator = token.text;
      nest(token, token.text === "^" ? depth + 1 : level);
      checked.push(token);
    }
  };
  const implyProduct = (left: Token, right: Token) => {
    const isGlued = VARIABLES.includes(left.text) && VARIABLES.includes(right.text) && right.column === left.column + 1;
    if (left.kind === "number" && right.kind === "number") {
      fail("two numbers side by side, expected an operator between them", right);
    }
    if (left.kind === "name" && right.text === "(") {
      fail(`${left.text} is not a function: write ${left.text}*(...)`, right);
    }
    if (left.kind !== "number" && !isGlued) {
      fail(`expected an operator before '${right.text}': write * to multiply`, right);
    }
    if (operator === "/" || operator === "^") {
      const shown = right.text === "(" ? "(...)" : functions.includes(right.text) ? `${right.text}(...)` : right.text;
      fail(`two readings: write ${operator}${left.text}*${shown} or ${operator}(${left.text}*${shown})`, right);
    }
    endValue({ kind: "operator", text: "*", column: right.column });
  };

  let before: Token = { kind: "operator", text: "", column: 0 };
  for (const token of tokenize(text)) {
    const endsValue = before.kind === "number" || before.kind === "name" || before.text === ")";
    if (CALLABLE.includes(before.text) && token.text !== "(") {
      fail(`${before.text} needs its argument in parentheses: ${before.text}(x)`, token);
    } else if (token.text === "(") {
      if (endsValue && !CALLABLE.includes(before.text)) implyProduct(before, token);
      outer.push([token, operator, level, depth]);
      nest(token, depth + 1);
      [operator, level] = ["", depth];
      checked.push(token);
    } else if (token.kind === "number" || token.kind === "name") {
      if (endsValue) implyProduct(before, token);
      count(token);
      const name = Object.hasOwn(aliases, token.text) ? aliases[token.text]! : token.text;
      if (token.kind === "name" && ![...VARIABLES, ...Object.keys(constants), ...functions].includes(name)) {
        fail(describeUnknown(name), token);
      }
      checked.push({ ...token, text: name });
    } else if (endsValue) {
      endValue(token);
    } else if (token.text === "+" || token.text === "-") {
      count(token);
      nest(token, depth + 1);
      if (token.text === "-") checked.push({ ...token, text: "negate" });
    } else {
      const found = token.text ? `'${token.text}' stands here` : "the text ends here";
      fail(`${found}, expected a number, x, y, a function or a parenthesis`, token);
    }
    before = token;
  }
  return checked;
}

function tokenize(text: string): Token[] {
  const length = [...text].length;
  if (length > MAX_LENGTH)
    throw new ExpressionError(`${length} characters, expected at most ${MAX_LENGTH}`, MAX_LENGTH);
  const found = [...text.matchAll(TOKEN)].map((match): Token => {
    const kind = Object.keys(match.groups!).find((name) => match.groups![name] !== undefined) as Token["kind"];
    return { kind, text: match[0].replace("**", "^"), column: match.index };
  });
  const odd = found.find((token) => token.kind === "unexpected");
  if (odd) throw new ExpressionError(describeUnexpected(odd.text), odd.column);
  if (!found.length) throw new ExpressionError("nothing typed, expected a function of x and y such as x^2 + y^2", 0);
  return [...found, { kind: "end", text: "", column: text.trimEnd().length }];
}

/** Name a character that the language does not have, and what to type in its place. */
function describeUnexpected(char: string): string {
  const code = char.codePointAt(0)!;
  const [name, hint] = hints[char] ?? [
    `U+${code.toString(16).toUpperCase().padStart(4, "0")}`,
    "only ASCII letters, digits, + - * / ^ ( ) and . are read",
  ];
  return `unexpected character ${quote(char)}${code > 127 ? ` (${name})` : ""}: ${hint}`;
}

/** Suggest the nearest known name, or list the names that there are. */
function describeUnknown(name: string): string {
  const shown = name.length <= 40 ? name : `${name.slice(0, 39)}…`;
  const [letter, digits] = [name[0]!, name.slice(1, 10)];
  if (VARIABLES.includes(letter) && /^[0-9]+$/.test(name.slice(1))) {
    return `unknown name '${shown}': write ${letter}^${digits} for a power, ${digits}*${letter} for a product`;
  }
  const near = nearest(name.toLowerCase(), [...VARIABLES, ...Object.keys(constants), ...CALLABLE]);
  if (near) return `unknown name '${shown}', did you mean '${near}'?`;
  return `unknown name '${shown}': the variables are x and y, the functions ${functions.join(", ")}`;
}

/** From checked tokens to the tree, by the precedence of Python: ^ before signs before * and / before + and -. */
class Reader {
  private at = 0;
  constructor(private readonly tokens: Token[]) {}

  read(): Tree {
    let left = this.product();
    while (this.next("+", "-")) left = this.join(left, () => this.product());
    return left;
  }

  private product(): Tree {
    let left = this.signed();
    while (this.next("*", "/")) left = this.join(left, () => this.signed());
    return left;
  }

  private signed(): Tree {
    if (this.next("negate")) {
      this.at += 1;
      return { name: "negate", parts: [this.signed()] };
    }
    const base = this.atom();
    return this.next("^") ? this.join(base, () => this.signed()) : base;
  }

  private atom(): Tree {
    const { kind, text } = this.tokens[this.at++]!;
    if (kind === "number") return Number(text);
    if (text === "x" || text === "y") return text;
    if (text in constants) return constants[text]!;
    // A parenthesis, or a function and its own.
    if (text !== "(") this.at += 1;
    const inner = this.read();
    this.at += 1;
    return text === "(" ? inner : { name: text, parts: [inner] };
  }

  private next(...texts: string[]): boolean {
    return texts.includes(this.tokens[this.at]?.text ?? "");
  }

  private join(left: Tree, right: () => Tree): Tree {
    const name = this.tokens[this.at++]!.text as "+" | "-" | "*" | "/" | "^";
    return { name, parts: [left, right()] };
  }
}
