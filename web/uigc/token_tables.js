// From the logits of a token to the tables of its two digits (docs/FORMAT.md, section 3).

const TOTAL = 2 ** 24;
const DEEPEST = 448; // logits further below the largest than this count as this far

/** The table of a bit that is 1 with probability p / 65536. */
export const bitTable = (p) => [0, TOTAL - 256 * p, TOTAL];

/** 256 symbols that are equally likely, for the bytes of the check. */
export const BYTE_TABLE = Array.from({ length: 257 }, (_, index) => index * 65536);

/** The largest of a row's logits. */
export function largest(logits) {
  let most = logits[0];
  for (const logit of logits) if (logit > most) most = logit;
  return most;
}

/** Tables of tokens: a token is high * low digits + low. */
export class TokenTables {
  /**
   * @param {number} codebook K, a power of two from 4 to 4096
   * @param {Int32Array} weights `coder.weights`, 449 integers
   */
  constructor(codebook, weights) {
    this.lows = 2 ** Math.floor(Math.log2(codebook) / 2);
    this.highs = codebook / this.lows;
    this.weights = weights;
  }

  /** The table of the high digit, for a row of K logits. */
  high(logits) {
    const most = largest(logits);
    const sums = new Array(this.highs).fill(0);
    for (let digit = 0, token = 0; digit < this.highs; digit++) {
      for (let low = 0; low < this.lows; low++, token++) sums[digit] += this.#weight(most, logits[token]);
    }
    return cumulative(sums);
  }

  /** The table of the low digit of a token whose high digit is known. */
  low(logits, high) {
    const most = largest(logits); // of all K
    const first = high * this.lows;
    return cumulative(Array.from({ length: this.lows }, (_, low) => this.#weight(most, logits[first + low])));
  }

  #weight(most, logit) {
    return this.weights[Math.min(most - logit, DEEPEST)];
  }
}

// C[i] = floor(W[i] (2^24 - n) / W[n]) + i. The product has up to 55 bits, so the upper 15 and the lower 16 bits of W[i]
// are divided one after the other, as by hand: nothing exceeds 2^53, and floors of quotients of such doubles are exact.
function cumulative(weights) {
  const all = weights.reduce((sum, weight) => sum + weight);
  const free = TOTAL - weights.length;
  const table = [];
  let sum = 0;
  for (const [index, weight] of weights.entries()) {
    const upper = Math.floor(sum / 65536) * free;
    const lower = (upper % all) * 65536 + (sum % 65536) * free;
    table.push(Math.floor(upper / all) * 65536 + Math.floor(lower / all) + index);
    sum += weight;
  }
  return [...table, TOTAL];
}
