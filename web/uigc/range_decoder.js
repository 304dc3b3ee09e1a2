// The range decoder (docs/FORMAT.md, section 3) on unsigned 64-bit integers, which are pairs here: `high` and `low` hold
// 32 bits each, as doubles. Every value below is an integer of less than 2^53, so doubles hold all of them exactly.

import { InexactError } from "./errors.js";

const TWO_32 = 2 ** 32;
const TOTAL = 2 ** 24; // the sum of all probabilities of a symbol

export class RangeDecoder {
  #payload;
  #offset = 0;
  // The page's `lower` and `point` are only needed as point - lower. That difference stays below the range.
  #difference = { high: 0, low: 0 };
  #range = { high: TWO_32 - 1, low: TWO_32 - 1 };

  /** @param {Uint8Array} payload behind whose end all bytes are 0 */
  constructor(payload) {
    this.#payload = payload;
    this.#difference = { high: this.#word(), low: this.#word() };
  }

  /**
   * Reads one symbol.
   *
   * @param {ArrayLike<number>} table C of the page: rises from 0 to 2^24, one entry more than there are symbols
   * @returns {number} the index s with table[s] <= q < table[s + 1]
   * @throws {InexactError} if no encoder with these tables writes such a payload
   */
  symbol(table) {
    const scale = this.#range.high * 256 + Math.floor(this.#range.low / TOTAL); // range / 2^24, below 2^40
    const [q, remainder] = divide(this.#difference, scale);
    if (q >= TOTAL) {
      throw new InexactError(
        "The payload leaves the tables of its symbols: the file was written with another prior, or the prior was not " +
          "computed exactly here, so decode it with another browser or backend.",
      );
    }
    let symbol = 0;
    while (table[symbol + 1] <= q) symbol++;
    this.#difference = multiply(scale, q - table[symbol], remainder);
    this.#range = multiply(scale, table[symbol + 1] - table[symbol], 0);
    if (this.#range.high === 0) {
      this.#range = { high: this.#range.low, low: 0 };
      this.#difference = { high: this.#difference.low, low: this.#word() };
    }
    return symbol;
  }

  #word() {
    let word = 0;
    for (let byte = 0; byte < 4; byte++) word = word * 256 + (this.#payload[this.#offset++] ?? 0);
    return word;
  }
}

// Quotient and remainder of a pair by a scale of 2^8 to 2^40, by hand: a remainder and 12 more bits stay below 2^52.
function divide({ high, low }, scale) {
  let quotient = Math.floor(high / scale);
  let remainder = high % scale;
  for (const [above, size] of [[2 ** 20, 4096], [2 ** 8, 4096], [1, 256]]) {
    const dividend = remainder * size + (Math.floor(low / above) % size);
    quotient = quotient * size + Math.floor(dividend / scale);
    remainder = dividend % scale;
  }
  return [quotient, remainder];
}

// scale * factor + addend for a scale below 2^40, a factor up to 2^24 and an addend below 2^40, as a pair.
function multiply(scale, factor, addend) {
  const upper = Math.floor(scale / 2 ** 20) * factor;
  const low = (upper % 4096) * 2 ** 20 + (scale % 2 ** 20) * factor + addend;
  return { high: Math.floor(upper / 4096) + Math.floor(low / TWO_32), low: low % TWO_32 };
}
