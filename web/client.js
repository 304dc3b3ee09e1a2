// The page's side of worker.js.

import { UigcError } from "./uigc.js";

/** A decoder in a Worker of its own: `Decoder` of uigc.js for pages, which must not be blocked. */
export class WorkerDecoder {
  #worker = new Worker(new URL("./worker.js", import.meta.url), { type: "module" });
  #requests = new Map();
  #count = 0;
  #closed = false;

  constructor() {
    this.#worker.onmessage = ({ data: { id, progress, result, error } }) => {
      const request = this.#requests.get(id);
      if (!request) return; // the Worker failed before
      if (progress) return request.onProgress(progress);
      this.#requests.delete(id);
      return error ? request.reject(UigcError.fromData(error)) : request.resolve(result);
    };
    this.#worker.onerror = (event) => {
      for (const { reject } of this.#requests.values()) reject(new UigcError(`The Worker failed: ${event.message}`));
      this.#requests.clear();
    };
  }

  /**
   * Loads runtime and bundle.
   *
   * @param {object} options
   * @param {string} options.runtime address of the folder `onnxruntime-web/dist/`
   * @param {string} options.bundle address of the bundle's folder
   * @param {boolean} options.webgpu whether pixels may come from a graphics card
   * @param {number} options.threads more than one only in isolated pages (COOP and COEP)
   * @param {(progress: {step: string, done: number, total: number}) => void} onProgress
   */
  open(options, onProgress) {
    return this.#ask({ request: "open", ...options }, onProgress);
  }

  /** Decodes the bytes of a file: header, hash of the grid, pixels, times. */
  decode(file, options, onProgress) {
    return this.#ask({ request: "decode", file, ...options }, onProgress);
  }

  /** Ends the Worker, and gives all of its memory back; the decoder cannot be used any more. */
  close() {
    this.#closed = true;
    this.#worker.terminate();
    for (const { reject } of this.#requests.values()) reject(new UigcError("The decoder is closed: open another."));
    this.#requests.clear();
  }

  #ask(request, onProgress) {
    if (this.#closed) return Promise.reject(new UigcError("The decoder is closed: open another."));
    const id = this.#count++;
    return new Promise((resolve, reject) => {
      this.#requests.set(id, { resolve, reject, onProgress });
      this.#worker.postMessage({ id, ...request });
    });
  }
}

/** How many threads this page may use: the cores, up to four, if it is isolated, otherwise one. */
export function usableThreads() {
  return globalThis.crossOriginIsolated ? Math.max(1, Math.min(4, navigator.hardwareConcurrency ?? 1)) : 1;
}
