// rho^t, correctly rounded. C libraries, which Python calls, are one unit away in about 1 of 2000 steps.

const SPLIT = 2 ** 27 + 1;

/** The rounding error of a product, exactly (T. Dekker, 1971). */
function errorOf(a: number, b: number, product: number): number {
  const high = (x: number) => SPLIT * x - (SPLIT * x - x);
  const [a1, b1] = [high(a), high(b)];
  const [a0, b0] = [a - a1, b - b1];
  return a0 * b0 - (product - a1 * b1 - a0 * b1 - a1 * b0);
}

/** The n-th power of a number in [0, 1], n at least 1: squarings of the sum of two numbers, rounded once. */
export function integerPower(base: number, n: number): number {
  let [result, rest, square, more] = [1, 0, base, 0];
  for (let left = n; ; left = Math.floor(left / 2)) {
    if (left % 2) {
      const product = result * square;
      rest = errorOf(result, square, product) + (result * more + rest * square);
      result = product;
    }
    if (left < 2) return result + rest;
    const product = square * square;
    more = errorOf(square, square, product) + 2 * square * more;
    square = product;
  }
}
