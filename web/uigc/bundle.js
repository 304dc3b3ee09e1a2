// A bundle: its manifest first, then only those of its files that a decoder needs, each compared with its hash.

import { BundleError } from "./errors.js";
import { readManifest, readModel, sha256 } from "./manifest.js";

/**
 * @typedef {object} Source where the files of a bundle come from; `fromUrl` makes one that downloads and keeps them
 * @property {(name: string, entry?: {bytes: number, sha256: string}, onBytes?: (count: number) => void)
 *   => Promise<Uint8Array>} read resolves to all bytes of a file, and calls onBytes with those that have come so far;
 *   the manifest has no entry
 */

export class Bundle {
  #source;
  #manifest;
  #onProgress;
  #loaded = new Map();
  #arrived = new Map();

  constructor(source, manifest, onProgress) {
    this.#source = source;
    this.#manifest = manifest;
    this.#onProgress = onProgress;
  }

  /**
   * Reads and checks the manifest.
   *
   * @param {Source} source
   * @param {(progress: {step: "download", done: number, total: number}) => void} onProgress in bytes
   * @throws {BundleError}
   */
  static async open(source, onProgress = () => {}) {
    return new Bundle(source, await readManifest(await source.read("manifest.json")), onProgress);
  }

  get stages() {
    return this.#manifest.schedule.stages.length;
  }

  /** Whether the pixel decoder returns planes of floats (version 2) and not bytes (from version 3 on). */
  get paintsPlanes() {
    return this.#manifest.version === 2;
  }

  /** How many tokens around a tile its pixels depend on, or null if on all. */
  get halo() {
    return this.#manifest.graphs.decoder.halo;
  }

  /** The bytes that have been read so far, the manifest left out. */
  get bytes() {
    return [...this.#arrived.values()].reduce((sum, { done }) => sum + done, 0);
  }

  /** The first of these precisions in which the bundle has a graph. */
  precision(graph, wanted) {
    const found = wanted.find((precision) => precision in this.#manifest.graphs[graph].precisions);
    if (!found) {
      throw new BundleError(`The bundle has no graph ${graph} in ${wanted.join(" or ")}: export one that has.`);
    }
    return found;
  }

  /** Reads graphs, given as [name, precision], and the weights, all at once. */
  async load(graphs) {
    const entries = graphs.map(([name, precision]) => this.#manifest.graphs[name].precisions[precision]);
    const all = [this.#manifest.weights, ...entries];
    for (const { file, bytes } of all) if (!this.#arrived.has(file)) this.#arrived.set(file, { done: 0, bytes });
    const [weights, ...files] = await Promise.all(all.map((entry) => this.#read(entry)));
    return { weights, weightsFile: this.#manifest.weights.file, graphs: files };
  }

  /** What payloads are decoded with, see `manifest.js`. */
  async model() {
    return readModel(this.#manifest, (await this.load([])).weights);
  }

  #read(entry) {
    if (!this.#loaded.has(entry.file)) this.#loaded.set(entry.file, this.#readChecked(entry));
    return this.#loaded.get(entry.file);
  }

  /** Lets go of the files, which the sessions hold by now. */
  release() {
    this.#loaded.clear();
  }

  async #readChecked(entry) {
    const bytes = await this.#source.read(entry.file, entry, (count) => this.#report(entry, count));
    if (bytes.length !== entry.bytes || (await sha256(bytes)) !== entry.sha256) {
      throw new BundleError(
        `${entry.file} is not the file that the bundle's manifest states: it was damaged or replaced, so get the ` +
          "bundle anew.",
      );
    }
    this.#report(entry, bytes.length);
    return bytes;
  }

  #report({ file, bytes }, count) {
    this.#arrived.set(file, { done: count, bytes });
    const total = [...this.#arrived.values()].reduce((sum, arrival) => sum + arrival.bytes, 0);
    this.#onProgress({ step: "download", done: this.bytes, total });
  }
}
