// What a decoder reads of a bundle (docs/BUNDLE.md, section 2): the manifest and two tables, all of it checked.

import { BundleError } from "./errors.js";
import { hasSums } from "./token_tables.js";

const VERSIONS = [2, 3, 4];
const PATCH = 16;
const LARGEST_JSON = 2 ** 24; // bytes of a manifest or a weights header
const LIMITS = { tile: 64, window: 256, halo: 4096, codebook: 4096, name: 200 };
const TABLES = {
  "coder.weights": { length: 449, largest: 2 ** 19 - 1 },
  "mask.table": { length: 1024, largest: 2 ** 16 - 1 },
};
const SEAL = /"seal": "([0-9a-f]{64})"/g;

/**
 * @typedef {object} Model what the payload of a file is decoded with
 * @property {string} id of the prior, 64 digits
 * @property {number} codebook @property {number} window @property {number} unknown @property {number} pad
 * @property {number} tile @property {number[][][]} stages [row, column] in the tile, for each position of each stage
 * @property {boolean} hasSums whether stages return, behind the logits of a token, the weights of its high digits,
 *   which are sums over the low ones, and the largest logit
 * @property {Int32Array} weights `coder.weights` @property {Int32Array} maskTable `mask.table`
 */

function expect(condition, fact) {
  if (!condition) throw new BundleError(`The bundle ${fact}: it is damaged or not for this decoder, so get it anew.`);
}

const integer = (value, least, most) => Number.isInteger(value) && value >= least && value <= most;

/** The SHA-256 of bytes, in hexadecimal. */
export async function sha256(bytes) {
  // Outside of secure contexts there is no crypto.subtle, and nothing else there would be worth checking either.
  if (!globalThis.crypto?.subtle) {
    throw new BundleError("Bundles cannot be checked here: open the page over https or on localhost.");
  }
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/**
 * Parses and checks a manifest.
 *
 * @param {Uint8Array} bytes of `manifest.json`
 * @returns {Promise<object>} the manifest; what a decoder reads of it is sound
 * @throws {BundleError}
 */
export async function readManifest(bytes) {
  const text = asText(bytes, "manifest");
  const manifest = asJson(text, "manifest");
  const { format, version, prior, schedule, graphs, weights } = manifest;
  expect(format === "uigc-bundle", "does not say that it is one (uigc-bundle)");
  expect(VERSIONS.includes(version), `has version ${version}, where ${VERSIONS.join(", ")} are read`);
  await expectSeal(text);
  expect(manifest.patch === PATCH, `has tokens of ${manifest.patch} pixels, where ${PATCH} belong to the format`);
  checkSchedule(schedule);
  checkPrior(prior, schedule.tile);
  const names = [...schedule.stages.keys()].map((stage) => `stage${stage}`);
  for (const name of [...names, "decoder"]) checkGraph(graphs?.[name], name);
  const output = hasSums(version, prior.codebook) ? "predictions" : "logits";
  for (const name of names) {
    const { outputs } = graphs[name];
    const right = Array.isArray(outputs) && outputs.length === 1 && outputs[0]?.name === output;
    expect(right, `has a ${name} that does not return ${output}`);
  }
  const halo = graphs.decoder.halo;
  expect(halo === null || integer(halo, 0, LIMITS.halo), "states no halo of its pixel decoder");
  expect(weights?.file === "weights.safetensors", "does not name its weights");
  checkFile(weights, "weights");
  return manifest;
}

async function expectSeal(text) {
  const seals = [...text.matchAll(SEAL)];
  expect(seals.length === 1, "has no seal, or several");
  const unsealed = text.replace(SEAL, `"seal": "${"0".repeat(64)}"`);
  expect((await sha256(new TextEncoder().encode(unsealed))) === seals[0][1], "was edited after it was sealed");
}

function checkSchedule(schedule) {
  const { tile, stages } = schedule ?? {};
  expect(integer(tile, 1, LIMITS.tile) && Array.isArray(stages), "has no schedule");
  const places = new Set();
  for (const stage of stages) {
    expect(Array.isArray(stage) && stage.length > 0, "has a stage without positions");
    for (const position of stage) {
      const sound = Array.isArray(position) && position.length === 2;
      expect(sound && position.every((side) => integer(side, 0, tile - 1)), "has a position outside of its tile");
      places.add(position[0] * tile + position[1]);
    }
  }
  const complete = places.size === tile * tile && stages.flat().length === places.size;
  expect(complete, "does not give each position of its tile to one stage");
}

function checkPrior(prior, tile) {
  const { id, codebook, window, unknown, pad } = prior ?? {};
  expect(typeof id === "string" && /^[0-9a-f]{64}$/.test(id), "has no id of its prior");
  expect(integer(codebook, 4, LIMITS.codebook) && Number.isInteger(Math.log2(codebook)), "has no codebook");
  expect(unknown === codebook && pad === codebook + 1, "has other special tokens than follow its codebook");
  expect(integer(window, 1, LIMITS.window) && window % tile === 0, "has a window that is no multiple of its tile");
}

function checkGraph(graph, name) {
  const precisions = Object.values(graph?.precisions ?? {});
  expect(precisions.length > 0, `has no graph ${name}`);
  for (const file of precisions) checkFile(file, `graph ${name}`);
}

function checkFile(entry, what) {
  const { file, bytes, sha256: hash } = entry ?? {};
  const named = typeof file === "string" && file.length <= LIMITS.name && /^[\w-][\w.-]*$/.test(file);
  expect(named && integer(bytes, 0, 2 ** 31 - 1), `names no file for its ${what}`);
  expect(typeof hash === "string" && /^[0-9a-f]{64}$/.test(hash), `has no hash for its ${what}`);
}

/**
 * Everything that a payload is decoded with.
 *
 * @param {object} manifest as `readManifest` returns it
 * @param {Uint8Array} weights all bytes of `weights.safetensors`
 * @returns {Model}
 * @throws {BundleError}
 */
export function readModel({ version, prior, schedule }, weights) {
  const { id, codebook, window, unknown, pad } = prior;
  const [coder, mask] = Object.entries(TABLES).map(([name, limits]) => readTable(weights, name, limits));
  const sums = { hasSums: hasSums(version, codebook) };
  return { id, codebook, window, unknown, pad, ...sums, ...schedule, weights: coder, maskTable: mask };
}

function readTable(file, name, { length, largest }) {
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
  expect(file.length >= 8, "has weights without a header");
  const size = Number(view.getBigUint64(0, true));
  expect(size <= Math.min(LARGEST_JSON, file.length - 8), "has weights whose header does not fit them");
  const entry = asJson(asText(file.subarray(8, 8 + size), "header of the weights"), "header of the weights")[name];
  const [start, end] = entry?.data_offsets ?? [];
  const shaped = entry?.dtype === "I32" && entry.shape?.length === 1 && entry.shape[0] === length;
  expect(shaped && integer(start, 0, file.length) && end === start + 4 * length, `has no sound table ${name}`);
  expect(8 + size + end <= file.length, `ends within its table ${name}`);
  const table = Int32Array.from({ length }, (_, index) => view.getInt32(8 + size + start + 4 * index, true));
  expect(table.every((value) => integer(value, 1, largest)), `has values out of range in its table ${name}`);
  return table;
}

function asText(bytes, what) {
  expect(bytes.length <= LARGEST_JSON, `has a ${what} of ${bytes.length} bytes, where ${LARGEST_JSON} is the limit`);
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    return expect(false, `has a ${what} that is not UTF-8`);
  }
}

function asJson(text, what) {
  let value = null;
  try {
    value = JSON.parse(text);
  } catch {
    // refused below, like JSON that is no object
  }
  expect(typeof value === "object" && value !== null && !Array.isArray(value), `has a ${what} that is no JSON object`);
  return value;
}
