// The graphs of a bundle in ONNX Runtime: the stages of the prior, which must be exact, and the pixel decoder, which is
// free (docs/FORMAT.md, sections 4 and 6).

import { ProviderError } from "./errors.js";

// Half precision is left out: a CPU has to convert it, so it is the slowest, and newer bundles have none of it.
const STAGE_PRECISIONS = ["int8", "fp32"];
const PIXEL_PRECISIONS = { wasm: ["int8", "fp32", "fp16"], webgpu: ["fp32", "fp16", "int8"] };

export class Networks {
  #ort;
  #sessions;

  constructor(ort, sessions, pixels) {
    this.#ort = ort;
    this.#sessions = sessions;
    /** How pixels are computed: `provider`, `precision`, and `reason` if it is not the provider that was asked for. */
    this.pixels = pixels;
  }

  /**
   * Downloads and opens all graphs.
   *
   * @param {object} ort the module `onnxruntime-web`
   * @param {import("./bundle.js").Bundle} bundle
   * @param {"wasm" | "webgpu"} provider of the pixel decoder; stages run on wasm, which is exact
   * @param {(progress: {step: "load", done: number, total: number}) => void} onProgress in graphs
   * @param {"int8" | "fp32" | "fp16" | null} stages the precision of the stages; null: the fastest that the bundle has
   * @throws {BundleError | ProviderError}
   */
  static async open(ort, bundle, provider, onProgress, stages = null) {
    const names = Array.from({ length: bundle.stages }, (_, stage) => `stage${stage}`);
    const chosen = names.map((name) => [name, bundle.precision(name, stages ? [stages] : STAGE_PRECISIONS)]);
    const precision = bundle.precision("decoder", PIXEL_PRECISIONS[provider]);
    const total = names.length + 1;
    const files = await bundle.load([...chosen, ["decoder", precision]]);
    const networks = new Networks(ort, [], { provider, precision, reason: null });
    try {
      await networks.#load(bundle, files, (done) => onProgress({ step: "load", done, total }));
    } catch (error) {
      await networks.close();
      throw error;
    }
    return networks;
  }

  async #load(bundle, files, onGraph) {
    for (const graph of files.graphs.slice(0, -1)) {
      onGraph(this.#sessions.length);
      this.#sessions.push(await openGraph(this.#ort, graph, files, "wasm"));
    }
    onGraph(this.#sessions.length);
    try {
      this.#sessions.push(await openGraph(this.#ort, files.graphs.at(-1), files, this.pixels.provider));
    } catch (error) {
      if (this.pixels.provider === "wasm") throw error;
      await this.#paintOnWasm(bundle, error);
    }
    onGraph(this.#sessions.length);
  }

  // Pixels may come from anywhere, so a graphics card that fails is no reason to give up.
  async #paintOnWasm(bundle, error) {
    const precision = bundle.precision("decoder", PIXEL_PRECISIONS.wasm);
    const files = await bundle.load([["decoder", precision]]);
    const reason = `WebGPU did not take the pixel decoder (${firstLine(error.cause ?? error)}).`;
    this.#sessions[bundle.stages] = await openGraph(this.#ort, files.graphs[0], files, "wasm");
    this.pixels = { provider: "wasm", precision, reason };
  }

  /** What a stage predicts for a context of int32 (1, rows, columns), in its output of that name. */
  async stage(stage, tokens, { rows, columns }, output) {
    return (await this.#run(stage, tokens, rows, columns, output, "int32")).data;
  }

  /** The image of a grid of any size: a tensor of `type`, float32 (1, 3, 16 h, 16 w) or uint8 (1, 16 h, 16 w, 3). */
  async paint(tokens, rows, columns, type) {
    const image = await this.#run(this.#sessions.length - 1, tokens, rows, columns, "image", type);
    const [height, width] = [16 * rows, 16 * columns];
    const expected = type === "float32" ? [1, 3, height, width] : [1, height, width, 3];
    if (image.dims.join() !== expected.join()) {
      throw new ProviderError(
        `The pixel decoder returned the shape ${image.dims.join("x")}, where ${expected.join("x")} was expected: its ` +
          "graph is broken, so get the bundle anew.",
      );
    }
    return image.data;
  }

  async #run(session, tokens, rows, columns, output, type) {
    const input = new this.#ort.Tensor("int32", tokens, [1, rows, columns]);
    const { [output]: tensor } = await this.#sessions[session].run({ tokens: input }).catch((cause) => {
      throw new ProviderError(
        `A graph could not be run (${firstLine(cause)}): reload the page, or decode smaller images.`, { cause },
      );
    });
    if (tensor?.type !== type) {
      throw new ProviderError(
        `A graph returned ${output} of type ${tensor?.type}, where ${type} was expected: it is broken, so get the ` +
          "bundle anew.",
      );
    }
    return tensor;
  }

  /** Gives the memory of all graphs back. */
  async close() {
    await Promise.all(this.#sessions.map((session) => session.release()));
  }
}

async function openGraph(ort, graph, { weights, weightsFile }, provider) {
  const options = {
    executionProviders: [provider],
    externalData: [{ path: weightsFile, data: weights }],
    logSeverityLevel: 3, // errors only
  };
  try {
    return await ort.InferenceSession.create(graph, options);
  } catch (cause) {
    throw new ProviderError(
      `A graph could not be loaded (${firstLine(cause)}): use a newer browser, or get the bundle anew.`, { cause },
    );
  }
}

const firstLine = (error) => String(error?.message ?? error).split("\n")[0].slice(0, 200);
