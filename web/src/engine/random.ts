// numpy.random.default_rng(seed).standard_normal: SeedSequence, PCG64 and the ziggurat, number for number.
import tables from "tables:data";

// 256 layers of equal area under exp(-x^2 / 2) (J. Doornik, 2005, as in numpy/random/src/distributions). The widths are
// NumPy's to the last bit; the other two decide only which numbers are taken.
const width = tables.ziggurat;
const height = width.map((unit, layer) => (layer ? Math.exp(-0.5 * (unit * 2 ** 52) ** 2) : 1));
const inside = width.map((unit, layer) => (layer === 1 ? 0 : Math.floor((2 ** 52 * width.at(layer - 1)!) / unit)));
const LAST = 3.6541528853610088;
const INVERSE_LAST = 0.27366123732975828;
const BITS64 = 64n;
const MULTIPLIER = 0x2360ed051fc65da44385df649fccf645n;

/** The words that NumPy's SeedSequence makes of a seed below 2^32: state and increment of PCG64. */
function seedWords(seed: number): bigint[] {
  let constant = 0x43b0d7e5;
  const hash = (value: number) => {
    let mixed = value ^ constant;
    constant = Math.imul(constant, 0x931e8875);
    mixed = Math.imul(mixed, constant);
    return mixed ^ (mixed >>> 16);
  };
  const pool = [seed, 0, 0, 0].map(hash);
  for (let from = 0; from < 4; from += 1) {
    for (let to = 0; to < 4; to += 1) {
      if (from === to) continue;
      const mixed = (Math.imul(0xca01f9dd, pool[to]!) - Math.imul(0x4973f715, hash(pool[from]!))) | 0;
      pool[to] = mixed ^ (mixed >>> 16);
    }
  }
  constant = 0x8b51f9dd;
  const words = Array.from({ length: 8 }, (_, i) => {
    let word = pool[i % 4]! ^ constant;
    constant = Math.imul(constant, 0x58f38ded);
    word = Math.imul(word, constant);
    return BigInt((word ^ (word >>> 16)) >>> 0);
  });
  return [0, 2, 4, 6].map((i) => words[i]! | (words[i + 1]! << 32n));
}

export function standardNormal(seed: number, count: number): Float64Array {
  const [high, low, highStep, lowStep] = seedWords(seed) as [bigint, bigint, bigint, bigint];
  const increment = BigInt.asUintN(128, (((highStep << BITS64) | lowStep) << 1n) | 1n);
  const advance = (from: bigint) => BigInt.asUintN(128, from * MULTIPLIER + increment);
  let state = advance(increment + ((high << BITS64) | low));
  const next = () => {
    state = advance(state);
    const mixed = BigInt.asUintN(64, (state >> BITS64) ^ state);
    const turn = state >> 122n;
    return BigInt.asUintN(64, (mixed >> turn) | (mixed << (BITS64 - turn)));
  };
  const uniform = () => Number(next() >> 11n) / 2 ** 53;
  const draw = (): number => {
    for (;;) {
      const bits = next();
      const layer = Number(bits & 0xffn);
      const place = Number((bits >> 9n) & 0xfffffffffffffn);
      const x = ((bits >> 8n) & 1n ? -1 : 1) * place * width[layer]!;
      if (place < inside[layer]!) return x;
      if (layer > 0) {
        const top = (height[layer - 1]! - height[layer]!) * uniform() + height[layer]!;
        if (top < Math.exp(-0.5 * x * x)) return x;
        continue;
      }
      for (;;) {
        const beyond = -Math.log1p(-uniform()) * INVERSE_LAST;
        const y = -Math.log1p(-uniform());
        if (y + y > beyond * beyond) return ((bits >> 17n) & 1n ? -1 : 1) * (LAST + beyond);
      }
    }
  };
  return Float64Array.from({ length: count }, draw);
}
