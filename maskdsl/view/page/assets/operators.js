// The operators on columns of numbers, as in `ir/numpy_operators.py`. Booleans are 0 and 1.
//
// Each takes the column of results, their number, and the columns of its operands. Integers here are below 2 ** 51;
// those of `WIDE` are BigInts.

const integerLog2 = (x) => (x < 1 ? -1 : x < 4294967296 ? 31 - Math.clz32(x) : 63 - Math.clz32(x / 4294967296));
const high = (x) => Math.floor(x / 4294967296);

/** Scrambles a 32-bit word, as in `ir/values/fixed_random.py`. Products keep their low 32 bits, as `imul` does. */
function mix(x) {
  x ^= x >>> 16;
  x = Math.imul(x, 0x7feb352d);
  x ^= x >>> 15;
  x = Math.imul(x, 0x45d9f3b);
  return (x ^ (x >>> 16)) >>> 0;
}

/** Powers of integers by products, which are exact if the result is. */
function power(base, exponent, isFloat) {
  if (isFloat && exponent !== 2) return base ** exponent;
  let result = base === base || exponent === 0 ? 1 : NaN;
  for (let each = 0; each < exponent; each++) result *= base;
  return result;
}

/** The nearest integer; of two, the even one. */
function roundToEven(x) {
  const floor = Math.floor(x), rest = x - floor;
  return rest > 0.5 || (rest === 0.5 && floor % 2 !== 0) ? floor + 1 : floor;
}

/** The nearest BigInt of 64 bits; 0 for NaN. */
function nearest(whole) {
  if (whole !== whole) return 0n;
  return whole >= 2 ** 63 ? 2n ** 63n - 1n : whole < -(2 ** 63) ? -(2n ** 63n) : BigInt(whole);
}

/** For numbers or BigInts that are not negative. */
function commonDivisor(a, b) {
  while (b) [a, b] = [b, a % b];
  return a;
}

const OPERATORS = {
  add(r, n, a, b) { for (let i = 0; i < n; i++) r[i] = a[i] + b[i]; },
  subtract(r, n, a, b) { for (let i = 0; i < n; i++) r[i] = a[i] - b[i]; },
  multiply(r, n, a, b) { for (let i = 0; i < n; i++) r[i] = a[i] * b[i]; },
  divide(r, n, a, b) { for (let i = 0; i < n; i++) r[i] = a[i] / b[i]; },
  floor_divide(r, n, a, b) { for (let i = 0; i < n; i++) r[i] = b[i] === 0 ? 0 : Math.floor(a[i] / b[i]); },
  floor_modulo(r, n, a, b) { for (let i = 0; i < n; i++) r[i] = b[i] === 0 ? 0 : a[i] - b[i] * Math.floor(a[i] / b[i]); },
  negate(r, n, a) { for (let i = 0; i < n; i++) r[i] = -a[i]; },
  power(r, n, a, b, isFloat) { for (let i = 0; i < n; i++) r[i] = power(a[i], b[i], isFloat); },
  absolute(r, n, a) { for (let i = 0; i < n; i++) r[i] = Math.abs(a[i]); },
  minimum(r, n, a, b) { for (let i = 0; i < n; i++) r[i] = Math.min(a[i], b[i]); },
  maximum(r, n, a, b) { for (let i = 0; i < n; i++) r[i] = Math.max(a[i], b[i]); },
  equal(r, n, a, b) { for (let i = 0; i < n; i++) r[i] = a[i] === b[i] ? 1 : 0; },
  not_equal(r, n, a, b) { for (let i = 0; i < n; i++) r[i] = a[i] !== b[i] ? 1 : 0; },
  less(r, n, a, b) { for (let i = 0; i < n; i++) r[i] = a[i] < b[i] ? 1 : 0; },
  less_equal(r, n, a, b) { for (let i = 0; i < n; i++) r[i] = a[i] <= b[i] ? 1 : 0; },
  not(r, n, a) { for (let i = 0; i < n; i++) r[i] = 1 - a[i]; },
  select(r, n, c, a, b) { for (let i = 0; i < n; i++) r[i] = c[i] ? a[i] : b[i]; },
  integer_log2(r, n, a) { for (let i = 0; i < n; i++) r[i] = integerLog2(a[i]); },
  is_power_of_two(r, n, a) { for (let i = 0; i < n; i++) r[i] = a[i] > 0 && 2 ** integerLog2(a[i]) === a[i] ? 1 : 0; },
  share_bit(r, n, a, b) {
    for (let i = 0; i < n; i++) r[i] = (a[i] & b[i]) !== 0 || (high(a[i]) & high(b[i])) !== 0 ? 1 : 0;
  },
  greatest_common_divisor(r, n, a, b) { for (let i = 0; i < n; i++) r[i] = commonDivisor(Math.abs(a[i]), Math.abs(b[i])); },
  floor(r, n, a) { for (let i = 0; i < n; i++) r[i] = Math.floor(a[i]); },
  round_to_even(r, n, a) { for (let i = 0; i < n; i++) r[i] = roundToEven(a[i]); },
  truncate(r, n, a) { for (let i = 0; i < n; i++) r[i] = Math.trunc(a[i]); },
  to_float(r, n, a) { r.set(a.subarray(0, n)); },
  square_root(r, n, a) { for (let i = 0; i < n; i++) r[i] = Math.sqrt(a[i]); },
  exponential(r, n, a) { for (let i = 0; i < n; i++) r[i] = Math.exp(a[i]); },
  logarithm(r, n, a) { for (let i = 0; i < n; i++) r[i] = Math.log(a[i]); },
  tanh(r, n, a) { for (let i = 0; i < n; i++) r[i] = Math.tanh(a[i]); },
  sigmoid(r, n, a) {
    for (let i = 0; i < n; i++) {
      const small = Math.exp(-Math.abs(a[i]));
      r[i] = (a[i] >= 0 ? 1 : small) / (1 + small);
    }
  },
};

/** Operators of any number of operands: the first operand, joined with each of the others. */
const VARIADIC = {
  and(r, n, operands) {
    r.set(operands[0].subarray(0, n));
    for (const operand of operands.slice(1)) for (let i = 0; i < n; i++) r[i] *= operand[i];
  },
  or(r, n, operands) {
    r.set(operands[0].subarray(0, n));
    for (const operand of operands.slice(1)) for (let i = 0; i < n; i++) r[i] = r[i] || operand[i];
  },
  random(r, n, operands) {
    r.fill(0, 0, n);
    for (const operand of operands)
      for (let i = 0; i < n; i++) r[i] = mix(((r[i] ^ word(operand[i])) >>> 0) + 0x1e3779b9);
    for (let i = 0; i < n; i++) r[i] = r[i] >>> 1;
  },
};

/** The low 32 bits. */
const word = (x) => (typeof x === "bigint" ? Number(BigInt.asIntN(32, x)) : x | 0);

const floorDivide = (a, b) => (b === 0n ? 0n : (a - floorModulo(a, b)) / b);
const floorModulo = (a, b) => {
  if (b === 0n) return 0n;
  const rest = a % b;
  return rest !== 0n && rest < 0n !== b < 0n ? rest + b : rest;
};

/** The operators on single BigInts. Comparisons give booleans, `to_float` a number; roundings take numbers. */
const WIDE = {
  add: (a, b) => a + b,
  subtract: (a, b) => a - b,
  multiply: (a, b) => a * b,
  floor_divide: floorDivide,
  floor_modulo: floorModulo,
  negate: (a) => -a,
  power: (a, b) => a ** b,
  absolute: (a) => (a < 0n ? -a : a),
  minimum: (a, b) => (a < b ? a : b),
  maximum: (a, b) => (a > b ? a : b),
  equal: (a, b) => a === b,
  not_equal: (a, b) => a !== b,
  less: (a, b) => a < b,
  less_equal: (a, b) => a <= b,
  select: (c, a, b) => (c ? a : b),
  integer_log2: (a) => BigInt(a < 1n ? -1 : a.toString(2).length - 1),
  is_power_of_two: (a) => a > 0n && (a & (a - 1n)) === 0n,
  share_bit: (a, b) => (a & b) !== 0n,
  greatest_common_divisor: (a, b) => commonDivisor(WIDE.absolute(a), WIDE.absolute(b)),
  floor: (a) => nearest(Math.floor(a)),
  round_to_even: (a) => nearest(roundToEven(a)),
  truncate: (a) => nearest(Math.trunc(a)),
  to_float: (a) => Number(a),
};
