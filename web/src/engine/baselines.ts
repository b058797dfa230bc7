// The optimizers of src/rmsprop/baselines.py, operation for operation. Arrays of any length; a learning rate for each
// element.
import { integerPower } from "./power";

type Numbers = Record<string, number>;
type Arrays = Float64Array;

export interface Baseline {
  /** How many arrays it keeps. */
  buffers: number;
  /** Which of them estimates the size of the gradient, or null. */
  statistic: number | null;
  step(p: Arrays, g: Arrays, lr: Arrays, own: Numbers, t: number, a: Arrays, b: Arrays, c: Arrays): void;
  /** What the step multiplied the gradient, or its average, by, at element i. */
  rate(i: number, lr: number, own: Numbers, t: number, a: Arrays, b: Arrays, c: Arrays): number;
}

/** a / b, and 0 where b is 0. */
const quotient = (a: number, b: number) => (b === 0 ? 0 : a / b);

const momentum = (isNesterov: boolean): Baseline => ({
  buffers: 1,
  statistic: null,
  step(p, g, lr, own, _, buffer) {
    const decay = own.momentum!;
    for (let i = 0; i < p.length; i += 1) {
      buffer[i] = decay * buffer[i]! + g[i]!;
      p[i]! -= lr[i]! * (isNesterov ? g[i]! + decay * buffer[i]! : buffer[i]!);
    }
  },
  rate: (_, lr) => lr,
});

const adam: Baseline = {
  buffers: 2,
  statistic: 1,
  step(p, g, lr, own, t, mean, square) {
    const { beta1, beta2, eps } = own as { beta1: number; beta2: number; eps: number };
    const first = 1 - integerPower(beta1, t);
    const second = Math.sqrt(1 - integerPower(beta2, t));
    for (let i = 0; i < p.length; i += 1) {
      mean[i]! += (1 - beta1) * (g[i]! - mean[i]!);
      square[i] = beta2 * square[i]! + (1 - beta2) * g[i]! * g[i]!;
      p[i]! -= quotient((lr[i]! / first) * mean[i]!, Math.sqrt(square[i]!) / second + eps);
    }
  },
  rate(i, lr, own, t, _, square) {
    const second = Math.sqrt(1 - integerPower(own.beta2!, t));
    return quotient(lr / (1 - integerPower(own.beta1!, t)), Math.sqrt(square[i]!) / second + own.eps!);
  },
};

export const BASELINES = new Map<string, Baseline>([
  [
    "gradient_descent",
    {
      buffers: 0,
      statistic: null,
      step(p, g, lr) {
        for (let i = 0; i < p.length; i += 1) p[i]! -= lr[i]! * g[i]!;
      },
      rate: (_, lr) => lr,
    },
  ],
  ["momentum", momentum(false)],
  ["nesterov", momentum(true)],
  [
    "adagrad",
    {
      buffers: 1,
      statistic: 0,
      step(p, g, lr, own, _, sum) {
        for (let i = 0; i < p.length; i += 1) {
          sum[i]! += g[i]! * g[i]!;
          p[i]! -= quotient(lr[i]! * g[i]!, Math.sqrt(sum[i]!) + own.eps!);
        }
      },
      rate: (i, lr, own, _, sum) => quotient(lr, Math.sqrt(sum[i]!) + own.eps!),
    },
  ],
  [
    "adadelta",
    {
      buffers: 3,
      statistic: 0,
      step(p, g, lr, own, _, square, updates, ratio) {
        const { rho, eps } = own as { rho: number; eps: number };
        const fresh = 1 - rho;
        for (let i = 0; i < p.length; i += 1) {
          square[i] = rho * square[i]! + fresh * g[i]! * g[i]!;
          ratio[i] = Math.sqrt(updates[i]! + eps) / Math.sqrt(square[i]! + eps);
          const update = ratio[i]! * g[i]!;
          updates[i] = rho * updates[i]! + fresh * update * update;
          p[i]! -= lr[i]! * update;
        }
      },
      rate: (i, lr, _own, _t, _square, _updates, ratio) => lr * ratio[i]!,
    },
  ],
  ["adam", adam],
  [
    "adamw",
    {
      ...adam,
      step(p, g, lr, own, ...rest) {
        for (let i = 0; i < p.length; i += 1) p[i]! *= 1 - lr[i]! * own.weight_decay!;
        adam.step(p, g, lr, own, ...rest);
      },
    },
  ],
]);
