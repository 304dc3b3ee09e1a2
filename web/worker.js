// Decodes in a Worker, so that the page stays alive. Requests have an id; answers are {id, progress}, {id, result} or
// {id, error}. The first request opens a bundle, all others decode a file.

import { Decoder, UigcError, ProviderError } from "./uigc.js";

let opened = null;

const REQUESTS = {
  async open({ runtime, bundle, threads, webgpu }, onProgress) {
    const pixels = webgpu ? await graphicsCard() : { provider: "wasm", reason: "WebGPU is switched off." };
    const ort = await loadRuntime(runtime, pixels.provider, threads);
    opened = await Decoder.open({ ort, bundle, pixels: pixels.provider, onProgress });
    const { provider, precision, reason } = opened.pixels;
    return { provider, precision, reason: reason ?? pixels.reason, bundleBytes: opened.bundleBytes, threads };
  },

  async decode({ file, maxPixels }, onProgress) {
    const { header, hash, rgba, times } = await opened.decode(file, { maxPixels, onProgress });
    delete header.payload;
    return { header, hash, rgba, times };
  },
};

// The provider of the pixel decoder. A software adapter would take minutes where wasm takes a second.
async function graphicsCard() {
  const adapter = await navigator.gpu?.requestAdapter().catch(() => null);
  const software = adapter?.info?.isFallbackAdapter ?? adapter?.isFallbackAdapter ?? false;
  if (!adapter || software) return { provider: "wasm", reason: "This browser offers no WebGPU with a graphics card." };
  return { provider: "webgpu", reason: null };
}

// WebGPU waits for the card within WebAssembly. Where the engine can do that (JSPI), the runtime is 10 MB smaller.
async function loadRuntime(folder, provider, threads) {
  const build = provider === "wasm" ? "wasm" : "Suspending" in WebAssembly ? "jspi" : "webgpu";
  const address = new URL(`ort.${build}.min.mjs`, folder).href;
  const ort = await import(address).catch((cause) => {
    throw new ProviderError(`ONNX Runtime is not at ${folder}: run 'npm install' in the page's folder.`, { cause });
  });
  ort.env.wasm.wasmPaths = folder;
  ort.env.wasm.numThreads = threads;
  ort.env.logLevel = "error";
  return ort;
}

self.onmessage = async ({ data: { id, request, ...operands } }) => {
  const onProgress = (progress) => self.postMessage({ id, progress });
  try {
    const result = await REQUESTS[request](operands, onProgress);
    self.postMessage({ id, result }, result.rgba ? [result.rgba.buffer] : []);
  } catch (error) {
    const known = error instanceof UigcError ? error : new UigcError(`This is a bug in uigc: ${error?.message ?? error}`);
    if (known !== error) console.error(error);
    self.postMessage({ id, error: known.toData() });
  }
};
