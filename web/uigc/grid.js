// From a payload to the grid of tokens: the staged loop (docs/FORMAT.md, the preamble and sections 3 to 5).

import { gridCrc32 } from "./crc32.js";
import { InexactError, PriorMismatchError, TooLargeError } from "./errors.js";
import { RangeDecoder } from "./range_decoder.js";
import { TokenRandoms, drawn, mostLikely } from "./regeneration.js";
import { readEdgeBits, stageOrder, wholeStages } from "./schedule.js";
import { BYTE_TABLE, TokenTables, expectPredictions } from "./token_tables.js";

/**
 * Refuses a file that another prior wrote, or whose image is too large, before anything is allocated for it.
 *
 * @throws {PriorMismatchError | TooLargeError}
 */
export function expectDecodable({ prior, width, height }, model, maxPixels) {
  const own = model.id.slice(0, 8);
  if (prior !== own) {
    throw new PriorMismatchError(
      `The file was written with the prior ${prior}, and this bundle has ${own}: open the bundle that wrote it.`,
    );
  }
  if (width * height > maxPixels) {
    throw new TooLargeError(
      `The image has ${width}x${height} pixels, and at most ${maxPixels} are decoded here: raise maxPixels for more.`,
    );
  }
}

/**
 * Decodes the tokens of a file that `expectDecodable` has let through.
 *
 * @param {ReturnType<typeof import("./header.js").readHeader>} header
 * @param {import("./manifest.js").Model} model what the bundle states about its prior
 * @param {(stage: number, tokens: Int32Array, extended: {rows: number, columns: number}) => Promise<Int32Array>} run
 *   runs the graph of a stage on a context of int32 (1, rows, columns), and resolves to its output
 * @param {(stage: number) => void} before is called before each stage, and with the number of stages at the end
 * @returns {Promise<Int32Array>} the tokens of the grid in raster order
 * @throws {InexactError | ProviderError}
 */
export async function decodeGrid(header, model, run, before = () => {}) {
  const decoding = new Decoding(header, model);
  for (let stage = 0; stage < model.stages.length; stage++) {
    before(stage);
    decoding.take(stage, await run(stage, decoding.context, decoding.extended));
  }
  before(model.stages.length);
  decoding.expectCheck();
  return decoding.tokens;
}

// One file on its way: what has been decoded of it so far.
class Decoding {
  constructor(header, model) {
    this.model = model;
    this.rows = header.rows;
    this.columns = header.columns;
    const whole = (side) => Math.ceil(side / model.window) * model.window;
    this.extended = { rows: whole(this.rows), columns: whole(this.columns) };
    this.decoder = new RangeDecoder(header.payload);
    this.sent = this.#sentTokens(header.mode);
    this.tables = new TokenTables(model);
    this.randoms = header.drawn ? new TokenRandoms(header.seed) : null;
    this.tokens = new Int32Array(this.rows * this.columns);
    this.context = new Int32Array(this.extended.rows * this.extended.columns).fill(model.pad);
    for (let row = 0; row < this.rows; row++) {
      const start = row * this.extended.columns;
      this.context.fill(model.unknown, start, start + this.columns);
    }
  }

  #sentTokens(mode) {
    const whole = wholeStages(mode, this.model.stages);
    if (mode === "entire") return () => true;
    const bit = readEdgeBits(this.decoder, this, this.model.maskTable);
    return (stage, { row, column }) => stage < whole || bit(row, column);
  }

  // Reads the sent tokens of a stage, regenerates its lost ones, and only then shows the sent ones to later stages.
  take(stage, predictions) {
    const { stages, tile } = this.model;
    const { columns } = this.tables;
    const order = stageOrder(stages[stage], tile, this.extended);
    expectPredictions(predictions, stage, order.length, this.tables);
    const positions = order
      .map((position, index) => ({ ...position, seen: predictions.subarray(index * columns, (index + 1) * columns) }))
      .filter(({ row, column }) => row < this.rows && column < this.columns);
    const sent = positions.filter((position) => this.sent(stage, position));
    const highs = sent.map((position) => this.decoder.symbol(this.tables.high(position.seen)));
    sent.forEach((position, index) => {
      const low = this.decoder.symbol(this.tables.low(position.seen, highs[index]));
      const token = highs[index] * this.tables.lows + low;
      this.tokens[position.row * this.columns + position.column] = token;
      this.context[position.row * this.extended.columns + position.column] = token;
    });
    for (const position of positions) if (!this.sent(stage, position)) this.#regenerate(position);
  }

  #regenerate({ row, column, seen }) {
    const index = row * this.columns + column;
    const logits = this.tables.logits(seen);
    this.tokens[index] = this.randoms
      ? drawn(logits, this.randoms.at(index), this.model.weights)
      : mostLikely(logits);
  }

  expectCheck() {
    const check = this.decoder.symbol(BYTE_TABLE) * 256 + this.decoder.symbol(BYTE_TABLE);
    if (check !== gridCrc32(this.tokens) % 65536) {
      throw new InexactError(
        "The tokens do not fit the file's check: the prior was not computed exactly here, or the file is not sound, so " +
          "decode it with another browser or backend.",
      );
    }
  }
}
