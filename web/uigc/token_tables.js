// From what a stage predicts for a token to the tables of its two digits (docs/FORMAT.md, section 3).

import { InexactError, ProviderError } from "./errors.js";

const TOTAL = 2 ** 24;
const LARGEST_LOGIT = 2047;
const LARGEST_WEIGHT = 2 ** 19 - 1;
const SUMMED_EXACTLY = 32; // weights
const DEEPEST = 448; // logits further below the largest than this count as this far

/** The table of a bit that is 1 with probability p / 65536. */
export const bitTable = (p) => [0, TOTAL - 256 * p, TOTAL];

/** 256 symbols that are equally likely, for the bytes of the check. */
export const BYTE_TABLE = Array.from({ length: 257 }, (_, index) => index * 65536);

/** The number of low digits of a token, for K codewords: a power of two, about the square root of K. */
export const lowDigits = (codebook) => 2 ** Math.floor(Math.log2(codebook) / 2);

/** Whether the stages of a bundle return sums behind their logits: from version 4 on, where float32 holds them. */
export const hasSums = (version, codebook) => version >= 4 && lowDigits(codebook) <= SUMMED_EXACTLY;

/** Tables of tokens: a token is high * low digits + low. */
export class TokenTables {
  /**
   * @param {import("./manifest.js").Model} model K is its codebook, a power of two from 4 to 4096
   */
  constructor({ codebook, hasSums, weights }) {
    this.codebook = codebook;
    this.lows = lowDigits(codebook);
    this.highs = codebook / this.lows;
    this.hasSums = hasSums;
    this.weights = weights;
    /** How many numbers a stage returns for a token: K logits, and what it may add to them. */
    this.columns = hasSums ? codebook + this.highs + 1 : codebook;
  }

  /**
   * The K logits of a row of what a stage returns.
   *
   * @throws {InexactError} if the largest is not the one that the row states
   */
  logits(row) {
    const logits = row.subarray(0, this.codebook);
    if (this.hasSums && largest(logits) !== row[this.columns - 1]) {
      throw inexact("The largest logits that a stage returned are others than it stated");
    }
    return logits;
  }

  /** The first number of a row beyond its limits, which no exact prior returns, in words; null if there is none. */
  fault(row) {
    for (let column = 0; column < this.columns; column++) {
      const isWeight = column >= this.codebook && column < this.columns - 1;
      const low = isWeight ? this.lows : -LARGEST_LOGIT;
      const high = isWeight ? this.lows * LARGEST_WEIGHT : LARGEST_LOGIT;
      if (row[column] < low || row[column] > high) {
        const what = isWeight ? "weight" : column < this.codebook ? "logit" : "largest logit";
        return `the ${what} ${row[column]}, where ${low} to ${high} was expected`;
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
      throw inexact("The weights that a stage returned are not those of its logits");
    }
    return cumulative(weights);
  }

  #largest(row) {
    return this.hasSums ? row[this.columns - 1] : largest(row);
  }

  #sum(row, high, most) {
    return this.hasSums ? row[this.codebook + high] : total(this.#weights(row, high, most));
  }

  #weights(row, high, most) {
    const logits = row.subarray(high * this.lows, (high + 1) * this.lows);
    return Array.from(logits, (logit) => this.weights[Math.min(Math.max(most - logit, 0), DEEPEST)]);
  }
}

/**
 * The logits among the predictions of a stage.
 *
 * @throws {ProviderError | InexactError}
 */
export function logitsOf(predictions, stage, rows, model) {
  const tables = new TokenTables(model);
  expectPredictions(predictions, stage, rows, tables);
  const found = new Int32Array((predictions.length / tables.columns) * model.codebook);
  for (let row = 0; row * tables.columns < predictions.length; row++) {
    const seen = predictions.subarray(row * tables.columns, (row + 1) * tables.columns);
    found.set(tables.logits(seen), row * model.codebook);
  }
  return found;
}

/**
 * Refuses what no exact prior returns.
 *
 * @throws {ProviderError}
 */
export function expectPredictions(found, stage, rows, tables) {
  const count = rows * tables.columns;
  if (!(found instanceof Int32Array) || found.length !== count) {
    throw new ProviderError(
      `Stage ${stage} returned ${found?.length} numbers of ${found?.constructor?.name}, and ${count} of Int32Array ` +
        "were expected: its graph is broken, so get the bundle anew.",
    );
  }
  for (let start = 0; start < count; start += tables.columns) {
    const fault = tables.fault(found.subarray(start, start + tables.columns));
    if (fault) {
      throw new ProviderError(`Stage ${stage} returned ${fault}: its graph is broken, so get the bundle anew.`);
    }
  }
}

function inexact(fact) {
  return new InexactError(
    `${fact}: the prior was not computed exactly here, so decode with another browser or backend.`,
  );
}

const largest = (logits) => logits.reduce((most, logit) => Math.max(most, logit));

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
