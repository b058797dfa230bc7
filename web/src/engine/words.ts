// What Python's messages and scripts are made of: quoted text, numbers with all digits, the nearest known name.

/** Python's `repr` of a text. */
export function quote(text: string): string {
  const mark = text.includes("'") && !text.includes('"') ? '"' : "'";
  const escaped = [...text].map((char) => {
    const code = char.codePointAt(0)!;
    const short = { "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t", [mark]: `\\${mark}` }[char];
    if (short) return short;
    if (char === " " || !/[\p{C}\p{Z}]/u.test(char)) return char;
    const digits = code.toString(16);
    if (code <= 0xff) return `\\x${digits.padStart(2, "0")}`;
    return code <= 0xffff ? `\\u${digits.padStart(4, "0")}` : `\\U${digits.padStart(8, "0")}`;
  });
  return `${mark}${escaped.join("")}${mark}`;
}

/** Python's `repr` of a float. */
export function float(value: number): string {
  const size = Math.abs(value);
  if (!Number.isFinite(value)) return Number.isNaN(value) ? "nan" : value > 0 ? "inf" : "-inf";
  if (Object.is(value, -0)) return "-0.0";
  if (value !== 0 && (size < 1e-4 || size >= 1e16)) {
    const [mantissa, exponent] = value.toExponential().split("e") as [string, string];
    return `${mantissa}e${exponent[0]}${exponent.slice(1).padStart(2, "0")}`;
  }
  return Number.isInteger(value) ? `${value}.0` : String(value);
}

/** Python's `format(value, ".{digits}g")`. */
export function general(value: number, digits: number): string {
  if (!Number.isFinite(value)) return float(value);
  const [mantissa, exponent] = value.toExponential(digits - 1).split("e") as [string, string];
  const strip = (text: string) => (text.includes(".") ? text.replace(/\.?0+$/, "") : text);
  if (Number(exponent) >= -4 && Number(exponent) < digits) return strip(value.toFixed(digits - 1 - Number(exponent)));
  return `${strip(mantissa)}e${exponent[0]}${exponent.slice(1).padStart(2, "0")}`;
}

/** The word of `known` that Python's difflib.get_close_matches puts first, or null. */
export function nearest(word: string, known: string[], cutoff = 0.6): string | null {
  const scored = known
    .map((each) => ({ each, ratio: (2 * matches(each, word)) / (each.length + word.length || 1) }))
    .filter(({ ratio }) => ratio >= cutoff)
    .sort((a, b) => b.ratio - a.ratio || (a.each < b.each ? 1 : -1));
  return scored[0]?.each ?? null;
}

/** The total length of the matching blocks of difflib.SequenceMatcher: the longest one, then left and right of it. */
function matches(a: string, b: string): number {
  let [best, from, to] = [0, 0, 0];
  for (let i = 0; i < a.length; i += 1) {
    for (let j = 0; j < b.length; j += 1) {
      let size = 0;
      while (i + size < a.length && a[i + size] === b[j + size]) size += 1;
      if (size > best) [best, from, to] = [size, i, j];
    }
  }
  if (!best) return 0;
  return best + matches(a.slice(0, from), b.slice(0, to)) + matches(a.slice(from + best), b.slice(to + best));
}
