// Tokens that were not sent come back as the most likely ones, or are drawn (docs/FORMAT.md, section 5).

const DRAWN_FROM = 8;
const DEEPEST = 448;
const MULTIPLIERS = [0xd2e7470ee14c6c93n, 0xca5a826395121157n];
const WEYL = [0x9e3779b97f4a7c15n, 0xbb67ae8584caa73bn];
const LOWER = 2n ** 64n - 1n;

/** The index of the largest logit, the smallest of equal ones. */
export function mostLikely(logits) {
  let best = 0;
  for (let token = 1; token < logits.length; token++) if (logits[token] > logits[best]) best = token;
  return best;
}

/**
 * A token drawn from the eight most likely ones.
 *
 * @param {Int32Array} logits of all K tokens
 * @param {number} random the token's random number, 0 to 2^32 - 1
 * @param {Int32Array} weights `coder.weights`
 */
export function drawn(logits, random, weights) {
  const leaders = leading(logits, Math.min(DRAWN_FROM, logits.length));
  const most = logits[leaders[0]];
  const chances = leaders.map((token) => weights[Math.min(Math.floor((4 * (most - logits[token])) / 3), DEEPEST)]);
  const all = chances.reduce((sum, chance) => sum + chance); // below 2^22
  // floor(random * all / 2^32), whose product has up to 54 bits, from the two halves of the random number
  const threshold = Math.floor(((random >>> 16) * all + Math.floor(((random & 0xffff) * all) / 65536)) / 65536);
  let sum = 0;
  return leaders.find((_, place) => (sum += chances[place]) > threshold);
}

// The tokens with the largest logits, largest first, among equals the smaller token first.
function leading(logits, count) {
  const leaders = [];
  logits.forEach((logit, token) => {
    if (leaders.length === count && logit <= logits[leaders[count - 1]]) return;
    let place = leaders.length;
    while (place > 0 && logit > logits[leaders[place - 1]]) place--;
    leaders.splice(place, 0, token);
    leaders.length = Math.min(leaders.length, count);
  });
  return leaders;
}

/** The random numbers of tokens: Philox4x64-10 with the key (seed, 0). */
export class TokenRandoms {
  #seed;
  #block = -1;
  #numbers = [];

  constructor(seed) {
    this.#seed = BigInt(seed);
  }

  /** The random number of the token with this raster index, 0 to 2^32 - 1. */
  at(index) {
    const block = Math.floor(index / 4) + 1;
    if (block !== this.#block) {
      this.#block = block;
      this.#numbers = philox(BigInt(block), this.#seed).map((number) => Number(number >> 32n));
    }
    return this.#numbers[index % 4];
  }
}

// One block of four numbers of 64 bits. Products of 128 bits take BigInt; a block of a large image takes microseconds.
function philox(block, seed) {
  let x = [block, 0n, 0n, 0n];
  let key = [seed, 0n];
  for (let round = 0; round < 10; round++) {
    const [p, r] = [MULTIPLIERS[0] * x[0], MULTIPLIERS[1] * x[2]];
    x = [(r >> 64n) ^ x[1] ^ key[0], r & LOWER, (p >> 64n) ^ x[3] ^ key[1], p & LOWER];
    key = key.map((half, index) => (half + WEYL[index]) & LOWER);
  }
  return x;
}
