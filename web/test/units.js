// node --test units.js: what needs no networks, or stand-ins for them.

import assert from "node:assert/strict";
import test from "node:test";
import { paintImage } from "../uigc/image.js";
import { Networks } from "../uigc/networks.js";
import { fromUrl } from "../uigc/download.js";
import { BundleError, InexactError, ProviderError } from "../uigc/errors.js";
import { sha256 } from "../uigc/manifest.js";
import { TokenTables, hasSums, lowDigits, logitsOf } from "../uigc/token_tables.js";

const PATCH = 16;
const HALO = 2;

// A pixel decoder whose pixels depend on tokens up to two away, as bytes or as planes of floats.
function localDecoder(planes, called = []) {
  const at = (tokens, rows, columns, row, column) =>
    row < 0 || row >= rows || column < 0 || column >= columns ? 7 : tokens[row * columns + column];
  return {
    called,
    async paint(tokens, rows, columns) {
      called.push([rows, columns]);
      const [height, width] = [PATCH * rows, PATCH * columns];
      const samples = planes ? new Float32Array(3 * height * width) : new Uint8Array(3 * height * width);
      for (let y = 0; y < height; y++) {
        for (let x = 0; x < width; x++) {
          const [row, column] = [Math.floor(y / PATCH), Math.floor(x / PATCH)];
          let value = (x % PATCH) + (y % PATCH);
          for (const step of [-HALO, 0, HALO]) value += at(tokens, rows, columns, row + step, column - step);
          for (let channel = 0; channel < 3; channel++) {
            const byte = (value + channel) % 256;
            if (planes) samples[(channel * height + y) * width + x] = byte / 255;
            else samples[3 * (y * width + x) + channel] = byte;
          }
        }
      }
      return samples;
    },
  };
}

for (const planes of [true, false]) {
  test(`tiles give the pixels of the whole, ${planes ? "planes" : "bytes"}`, async () => {
    const header = { width: 1600 - 5, height: 1444, rows: 91, columns: 100 };
    const tokens = Int32Array.from({ length: 9100 }, (_, index) => (index * 37) % 61);
    const networks = localDecoder(planes);
    const tiled = await paintImage(tokens, header, networks, { halo: HALO, planes });
    assert.deepEqual(networks.called, [[66, 66], [66, 38], [29, 66], [29, 38]]);
    const whole = await paintImage(tokens, header, localDecoder(planes), { halo: null, planes });
    assert.equal(Buffer.from(tiled.buffer).equals(Buffer.from(whole.buffer)), true);
    assert.deepEqual([...whole.subarray(0, 4)], [14 + tokens[0], 15 + tokens[0], 16 + tokens[0], 255]);
  });
}

test("samples are clipped, and halves rounded to even", async () => {
  const samples = new Float32Array(3 * 256).fill(0);
  samples.set([-1, 2, 0.5 / 255, 1.5 / 255, 2.5 / 255]);
  const networks = { paint: async () => samples };
  const header = { width: 16, height: 1, rows: 1, columns: 1 };
  const rgba = await paintImage(new Int32Array(1), header, networks, { halo: null, planes: true });
  assert.deepEqual([0, 4, 8, 12, 16].map((index) => rgba[index]), [0, 255, 0, 2, 2]);
  samples[300] = NaN;
  const broken = paintImage(new Int32Array(1), { ...header, height: 16 }, networks, { halo: null, planes: true });
  await assert.rejects(broken, ProviderError);
});

function bundleOf(log) {
  return {
    stages: 2,
    precision: (_, wanted) => wanted[0],
    load: async (graphs) => {
      log.push(graphs.map(([name, precision]) => `${name}.${precision}`).join(" "));
      return { graphs: graphs.map(([name]) => name), weights: null, weightsFile: "weights.safetensors" };
    },
  };
}

function runtime(fails, released = []) {
  const create = async (graph, { executionProviders: [provider] }) => {
    if (fails(provider, graph)) throw new Error(`no ${provider} here\nand more`);
    return { graph, release: async () => released.push(graph) };
  };
  return { InferenceSession: { create } };
}

test("WebGPU paints in floats where it can", async () => {
  const log = [];
  const networks = await Networks.open(runtime(() => false), bundleOf(log), "webgpu", () => {});
  assert.deepEqual(networks.pixels, { provider: "webgpu", precision: "fp32", reason: null });
  assert.deepEqual(log, ["stage0.int8 stage1.int8 decoder.fp32"]);
});

test("where WebGPU fails, wasm paints, and it is said", async () => {
  const log = [];
  const networks = await Networks.open(runtime((provider) => provider === "webgpu"), bundleOf(log), "webgpu", () => {});
  assert.deepEqual(networks.pixels, {
    provider: "wasm",
    precision: "int8",
    reason: "WebGPU did not take the pixel decoder (no webgpu here).",
  });
  assert.deepEqual(log.at(-1), "decoder.int8");
});

test("where nothing works, the error says why", async () => {
  const opening = Networks.open(runtime(() => true), bundleOf([]), "wasm", () => {});
  await assert.rejects(opening, { name: "ProviderError", message: /no wasm here\): use a newer browser/ });
});

test("what was loaded before a graph that fails is given back", async () => {
  const released = [];
  const failing = runtime((_, graph) => graph === "decoder", released);
  await assert.rejects(Networks.open(failing, bundleOf([]), "wasm", () => {}), ProviderError);
  assert.deepEqual(released, ["stage0", "stage1"]);
});

// A browser's cache and a server, as far as downloads use them.
function standIn(files) {
  const kept = new Map();
  const asked = [];
  const path = (address) => new URL(address).pathname;
  const cache = {
    match: async (address) => kept.get(String(address)) && new Response(kept.get(String(address))),
    keys: async (address) => [...kept.keys()].filter((key) => path(key) === path(address)),
    delete: async (key) => kept.delete(key),
    put: async (address, response) => kept.set(String(address), new Uint8Array(await response.arrayBuffer())),
  };
  globalThis.caches = { open: async () => cache };
  globalThis.fetch = async (address) => {
    const name = path(address).split("/").at(-1);
    asked.push(name);
    if (files.offline) throw new TypeError("no network");
    return name in files ? new Response(files[name]) : new Response("", { status: 404 });
  };
  return { kept, asked };
}

test("files are downloaded once, and again if the kept ones are damaged", async () => {
  const graph = new Uint8Array([1, 2, 3]);
  const entry = { bytes: 3, sha256: await sha256(graph) };
  const files = { "graph.onnx": graph, "manifest.json": new Uint8Array([7]) };
  const { kept, asked } = standIn(files);
  const source = fromUrl("https://example.org/bundle");
  const counts = [];
  assert.deepEqual(await source.read("graph.onnx", entry, (count) => counts.push(count)), graph);
  assert.deepEqual(await source.read("graph.onnx", entry), graph);
  assert.deepEqual([asked, counts], [["graph.onnx"], [3]]);
  const [key] = kept.keys();
  assert.equal(key, `https://example.org/bundle/graph.onnx?sha256=${entry.sha256}`);
  kept.set(key, new Uint8Array([1, 2]));
  assert.deepEqual(await source.read("graph.onnx", entry), graph);
  assert.equal(asked.length, 2);

  const newer = new Uint8Array([4, 5]);
  files["graph.onnx"] = newer;
  await source.read("graph.onnx", { bytes: 2, sha256: await sha256(newer) });
  assert.equal(kept.size, 1); // the older version is gone
});

test("the manifest is asked for every time, and kept for when there is no network", async () => {
  const files = { "manifest.json": new Uint8Array([7]) };
  const { asked } = standIn(files);
  const source = fromUrl("https://example.org/bundle/");
  await source.read("manifest.json");
  await source.read("manifest.json");
  assert.equal(asked.length, 2);
  files.offline = true;
  assert.deepEqual(await source.read("manifest.json"), new Uint8Array([7]));
  await assert.rejects(source.read("graph.onnx", { bytes: 3, sha256: "0" }), { message: /cannot be reached/ });
});

test("what is missing or longer than stated is refused", async () => {
  standIn({ "graph.onnx": new Uint8Array(100) });
  const source = fromUrl("https://example.org/", { keep: false });
  await assert.rejects(source.read("none.onnx", { bytes: 3, sha256: "0" }), { message: /not there \(HTTP 404\)/ });
  await assert.rejects(source.read("graph.onnx", { bytes: 99, sha256: "0" }), BundleError);
});

test("a connection that is lost in the middle is no bug of uigc", async () => {
  standIn({});
  const body = new ReadableStream({
    pull(controller) {
      if (controller.desiredSize > 0) controller.enqueue(new Uint8Array([1]));
      controller.error(new TypeError("network error"));
    },
  });
  globalThis.fetch = async () => new Response(body);
  const source = fromUrl("https://example.org/");
  await assert.rejects(source.read("graph.onnx", { bytes: 3, sha256: "0" }), (error) => {
    assert.equal(error.message, "/graph.onnx cannot be reached: check the address and the connection.");
    return error instanceof BundleError;
  });
});

test("a cache that cannot be read is as good as none", async () => {
  const graph = new Uint8Array([1, 2, 3]);
  standIn({ "graph.onnx": graph });
  const cache = await globalThis.caches.open();
  cache.match = async () => {
    throw new DOMException("the storage is broken", "UnknownError");
  };
  const source = fromUrl("https://example.org/");
  assert.deepEqual(await source.read("graph.onnx", { bytes: 3, sha256: await sha256(graph) }), graph);
});

// A row of the stage of a prior of 16 codewords, with the weights of its four high digits and its largest logit.
const WEIGHTS = Int32Array.from({ length: 449 }, (_, distance) => 449 - distance);
const LOGITS = Array.from({ length: 16 }, (_, token) => (token * 37) % 50);
const SUMS = [0, 4, 8, 12].map((first) =>
  LOGITS.slice(first, first + 4).reduce((sum, logit) => sum + WEIGHTS[Math.max(...LOGITS) - logit], 0),
);
const ROW = Int32Array.from([...LOGITS, ...SUMS, Math.max(...LOGITS)]);

test("weights of high digits are taken from the graph, and compared where they are used", () => {
  const [own, given] = [false, true].map((sums) => new TokenTables({ codebook: 16, hasSums: sums, weights: WEIGHTS }));
  assert.deepEqual(given.high(ROW), own.high(own.logits(ROW)));
  for (let digit = 0; digit < 4; digit++) {
    assert.deepEqual(given.low(ROW, digit), own.low(own.logits(ROW), digit));
    const wrong = ROW.slice();
    wrong[16 + digit] += 1;
    assert.throws(() => given.low(wrong, digit), InexactError);
  }
  const lost = ROW.slice();
  lost[20] -= 1;
  assert.throws(() => given.logits(lost), InexactError);
});

test("what a stage returns is looked at", () => {
  const model = { codebook: 16, hasSums: true, weights: WEIGHTS };
  const two = Int32Array.from([...ROW, ...ROW]);
  assert.deepEqual([...logitsOf(two, 3, 2, model)], [...LOGITS, ...LOGITS]);
  const others = [two.subarray(1), new Int32Array(0), Float32Array.from(two), null, two.map((number) => number + 3000)];
  for (const other of others) assert.throws(() => logitsOf(other, 3, 2, model), ProviderError);
});

test("numbers that no prior returns are named", () => {
  const tables = new TokenTables({ codebook: 16, hasSums: true, weights: WEIGHTS });
  assert.equal(tables.fault(ROW), null);
  const faults = [[3, 2048, "logit"], [17, 3, "weight"], [17, 2 ** 21, "weight"], [20, -2048, "largest logit"]];
  for (const [column, number, kind] of faults) {
    const wrong = ROW.slice();
    wrong[column] = number;
    assert.match(tables.fault(wrong), new RegExp(`^the ${kind} ${number}, where`));
  }
});

test("sums are there from version 4 on, where float32 holds them", () => {
  assert.deepEqual([4, 16, 256, 512, 1024, 2048, 4096].map(lowDigits), [2, 4, 16, 16, 32, 32, 64]);
  const found = [[3, 256], [4, 256], [4, 2048], [4, 4096]].map((each) => hasSums(...each));
  assert.deepEqual(found, [false, true, true, false]);
});
