// From the logits of a token to the tables of its two digits (docs/FORMAT.md, section 3).

import { InexactError } from "./errors.js";

const TOTAL = 2 ** 24;
const LARGEST_LOGIT = 2047;
const LARGEST_WEIGHT = 2 ** 19 - 1;
const DEEPEST = 448; // logits further below the largest than this count as this far

/** The table of a bit that is 1 with probability p / 65536. */
export const bitTable = (p) => [0, TOTAL - 256 * p, TOTAL];

/** 256 symbols that are equally likely, for the bytes of the check. */
export const BYTE_TABLE = Array.from({ length: 257 }, (_, index) => index * 65536);

/** The number of low digits of a token, for K codewords: a power of two, about the square root of K. */
export const lowDigits = (codebook) => 2 ** Math.floor(Math.log2(codebook) / 2);

/** Tables of tokens: a token is high * low digits + low. */
export class TokenTables {
  /**
   * @param {import("./manifest.js").Model} model K is its codebook, a power of two from 4 to 4096
   */
  constructor({ codebook, sums, weights }) {
    this.codebook = codebook;
    this.lows = lowDigits(codebook);
    this.highs = codebook / this.lows;
    this.sums = sums;
    this.weights = weights;
    /** How many numbers a stage returns for a token: K logits, and what it may add to them. */
    this.columns = sums ? codebook + this.highs + 1 : codebook;
  }

  /** The K logits of a row of what a stage returns. */
  logits(row) {
    return row.subarray(0, this.codebook);
  }

  /** The first number of a row beyond its limits, which no exact prior returns, in words; null if there is none. */
  fault(row) {
    for (let column = 0; column < this.columns; column++) {
      const isWeight = column >= this.codebook && column < this.columns - 1;
      const low = isWeight ? this.lows : -LARGEST_LOGIT;
      const high = isWeight ? this.lows * LARGEST_WEIGHT : LARGEST_LOGIT;
      if (row[column] < low || row[column] > high) {
        return `the ${isWeight ? "weight" : "logit"} ${row[column]}, where ${low} to ${high} was expected`;
      }
    }
    return null;
  }

  /** The table of the high digit, for a row of what a stage returns. */
  high(row) {
    const most = this.#largest(row);
    return cumulative(Array.from({ length: this.highs }, (_, digit) => this.#sum(row, digit, most)));
  }

  /**
   * The table of the low digit of a token whose high digit is known.
   *
   * @throws {InexactError} if the weight of the high digit is not the sum over the low ones
   */
  low(row, high) {
    const most = this.#largest(row);
    const weights = this.#weights(row, high, most);
    if (total(weights) !== this.#sum(row, high, most)) {
      throw new InexactError(
        "The weights that a stage returned are not those of its logits: the prior was not computed exactly here, so " +
          "decode with another browser or backend.",
      );
    }
    return cumulative(weights);
  }

  #largest(row) {
    return this.sums ? row[this.columns - 1] : row.reduce((most, logit) => Math.max(most, logit));
  }

  #sum(row, high, most) {
    return this.sums ? row[this.codebook + high] : total(this.#weights(row, high, most));
  }

  #weights(row, high, most) {
    const logits = row.subarray(high * this.lows, (high + 1) * this.lows);
    return Array.from(logits, (logit) => this.weights[Math.min(Math.max(most - logit, 0), DEEPEST)]);
  }
}

/** The logits among the predictions of a stage. */
export function logitsOf(predictions, model) {
  const tables = new TokenTables(model);
  const found = new Int32Array((predictions.length / tables.columns) * model.codebook);
  for (let row = 0; row * tables.columns < predictions.length; row++) {
    const seen = predictions.subarray(row * tables.columns, (row + 1) * tables.columns);
    found.set(tables.logits(seen), row * model.codebook);
  }
  return found;
}

const total = (weights) => weights.reduce((sum, weight) => sum + weight);

// C[i] = floor(W[i] (2^24 - n) / W[n]) + i. The product has up to 55 bits, so the upper 15 and the lower 16 bits of W[i]
// are divided one after the other, as by hand: nothing exceeds 2^53, and floors of quotients of such doubles are exact.
function cumulative(weights) {
  const all = total(weights);
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
