// The decoder of .uigc files in JavaScript, for browsers, Workers and Node.js: docs/WEB.md says how to use it.

import { Bundle } from "./uigc/bundle.js";
import { fromUrl } from "./uigc/download.js";
import { decodeGrid, expectDecodable } from "./uigc/grid.js";
import { readHeader } from "./uigc/header.js";
import { paintImage } from "./uigc/image.js";
import { sha256 } from "./uigc/manifest.js";
import { Networks } from "./uigc/networks.js";
import { logitsOf } from "./uigc/token_tables.js";

export * from "./uigc/errors.js";
export { LARGEST_FILE, readHeader } from "./uigc/header.js";
export { fromUrl } from "./uigc/download.js";

/** Larger images are refused unless `maxPixels` is raised: 2^22, as the memory of a browser's tab has limits, too. */
export const MAX_PIXELS = 2 ** 22;

/** Decodes .uigc files with one bundle, one after the other. */
export class Decoder {
  #bundle;
  #model;
  #networks;
  #turn = Promise.resolve();

  constructor(bundle, model, networks) {
    this.#bundle = bundle;
    this.#model = model;
    this.#networks = networks;
  }

  /**
   * Loads a bundle.
   *
   * @param {object} options
   * @param {object} options.ort the module `onnxruntime-web`
   * @param {string | URL | import("./uigc/bundle.js").Source} options.bundle the address of its folder, or a source
   * @param {"wasm" | "webgpu"} options.pixels the provider of the pixel decoder; `webgpu` needs the module
   *   `onnxruntime-web/webgpu`, and falls back to `wasm` where it fails, which `decoder.pixels` states
   * @param {"int8" | "fp32" | "fp16"} options.precision of the stages; speed only, never a token (default: the fastest)
   * @param {(progress: {step: string, done: number, total: number}) => void} options.onProgress steps are `download`
   *   (in bytes) and `load` (in graphs)
   * @returns {Promise<Decoder>}
   * @throws {BundleError | ProviderError}
   */
  static async open({ ort, bundle, pixels = "wasm", precision = null, onProgress = () => {} }) {
    const source = typeof bundle.read === "function" ? bundle : fromUrl(bundle);
    const opened = await Bundle.open(source, onProgress);
    const networks = await Networks.open(ort, opened, pixels, onProgress, precision);
    try {
      return new Decoder(opened, await opened.model(), networks);
    } catch (error) {
      await networks.close();
      throw error;
    } finally {
      opened.release();
    }
  }

  /** How pixels are computed: `{provider, precision, reason}`, with a reason if it is not as asked. */
  get pixels() {
    return this.#networks.pixels;
  }

  /** What the bundle took to download or to read from the cache, in bytes. */
  get bundleBytes() {
    return this.#bundle.bytes;
  }

  /**
   * Decodes one file.
   *
   * @param {Uint8Array} file
   * @param {object} options
   * @param {number} options.maxPixels the largest image that is decoded
   * @param {boolean} options.paint whether pixels are wanted, or the tokens alone
   * @param {(progress: {step: string, done: number, total: number}) => void} options.onProgress steps are `stage` (of
   *   the prior) and `paint` (in tiles)
   * @returns {Promise<{header: object, tokens: Int32Array, hash: string, rgba: Uint8ClampedArray | null,
   *   times: {step: string, milliseconds: number}[]}>} the header's fields, the grid in raster order and the SHA-256 of
   *   its int32 (least significant byte first), four bytes a pixel, and how long each stage and the pixel decoder took
   * @throws {UigcError} of the kinds in `uigc/errors.js`
   */
  decode(file, options = {}) {
    return this.#next(() => this.#decode(file, options));
  }

  async #decode(file, { maxPixels = MAX_PIXELS, paint = true, onProgress = () => {} }) {
    const header = readHeader(file);
    expectDecodable(header, this.#model, maxPixels);
    const clock = new Clock();
    const stages = this.#model.stages.length;
    const run = (stage, context, extended) => this.#predict(stage, context, extended);
    const tokens = await decodeGrid(header, this.#model, run, (stage) => {
      if (stage > 0) clock.lap(`stage ${stage - 1}`);
      onProgress({ step: "stage", done: stage, total: stages });
    });
    const decoder = { halo: this.#bundle.halo, planes: this.#bundle.paintsPlanes };
    const onTile = (done, total) => onProgress({ step: "paint", done, total });
    const rgba = paint ? await paintImage(tokens, header, this.#networks, decoder, onTile) : null;
    if (paint) clock.lap("pixel decoder");
    return { header, tokens, hash: await hashOf(tokens), rgba, times: clock.laps };
  }

  /**
   * The logits of a stage, for those who test whether they are exact.
   *
   * @param {number} stage
   * @param {Int32Array} tokens a context of int32 (1, rows, columns)
   * @param {{rows: number, columns: number}} size multiples of the window
   * @returns {Promise<Int32Array>}
   */
  logits(stage, tokens, size) {
    return this.#next(async () => {
      const found = await this.#predict(stage, tokens, size);
      const rows = (tokens.length / this.#model.tile ** 2) * this.#model.stages[stage].length;
      return logitsOf(found, stage, rows, this.#model);
    });
  }

  #predict(stage, tokens, size) {
    return this.#networks.stage(stage, tokens, size, this.#model.hasSums ? "predictions" : "logits");
  }

  // A session runs one image at a time.
  #next(work) {
    const done = this.#turn.then(work);
    this.#turn = done.catch(() => {});
    return done;
  }

  /** Gives the memory of the networks back; the decoder cannot be used any more. */
  async close() {
    await this.#turn;
    await this.#networks.close();
  }
}

class Clock {
  laps = [];
  #last = performance.now();

  lap(step) {
    const now = performance.now();
    this.laps.push({ step, milliseconds: now - this.#last });
    this.#last = now;
  }
}

function hashOf(tokens) {
  const bytes = new DataView(new ArrayBuffer(4 * tokens.length));
  tokens.forEach((token, index) => bytes.setInt32(4 * index, token, true));
  return sha256(new Uint8Array(bytes.buffer));
}
