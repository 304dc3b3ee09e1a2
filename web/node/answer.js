#!/usr/bin/env node
// node answer.js BUNDLE [MAX_PIXELS]: answers requests on standard input, a line each, as docs/WEB.md says. It is how
// the tests and the conformance kit talk to the decoder in JavaScript. UIGC_THREADS and UIGC_PRECISION say how the stages
// are computed.

import { createHash } from "node:crypto";
import { readFile, writeFile } from "node:fs/promises";
import { createInterface } from "node:readline";
import * as ort from "onnxruntime-web";
import { Decoder, UigcError } from "../uigc.js";
import { fromFolder } from "./folder_source.js";

const [bundle, maxPixels] = process.argv.slice(2);
ort.env.wasm.numThreads = Number(process.env.UIGC_THREADS ?? 1);
ort.env.logLevel = "error";

const bytesOf = (numbers) => new Uint8Array(numbers.buffer, numbers.byteOffset, numbers.byteLength);
const limit = maxPixels ? { maxPixels: Number(maxPixels) } : {};

async function read(path) {
  return readFile(path).catch((cause) => {
    throw new UigcError(`${path} cannot be read (${cause.code}): check its name.`, { cause });
  });
}

const REQUESTS = {
  // the grid of a file
  async decode(decoder, path) {
    const { hash } = await decoder.decode(await read(path), { ...limit, paint: false });
    return `grid ${hash}`;
  },

  // the logits of a stage for int32 (batch, rows, columns), least significant byte first
  async logits(decoder, stage, batch, rows, columns, path) {
    const tokens = new Int32Array(Uint8Array.from(await read(path)).buffer);
    const size = { rows: Number(rows), columns: Number(columns) };
    const all = createHash("sha256");
    for (let image = 0; image < Number(batch); image++) {
      const start = image * size.rows * size.columns;
      const part = tokens.slice(start, start + size.rows * size.columns);
      all.update(bytesOf(await decoder.logits(Number(stage), part, size)));
    }
    return `logits ${all.digest("hex")}`;
  },

  // the pixels of a file, red, green and blue, written to another file
  async paint(decoder, path, output) {
    const { header, rgba } = await decoder.decode(await read(path), limit);
    await writeFile(output, rgba.filter((_, index) => index % 4 < 3));
    return `pixels ${header.width} ${header.height}`;
  },
};

// A path is the rest of its line, spaces and all; only the first of two has none.
const OPERANDS = { decode: 1, logits: 5, paint: 2 };

// The first `count` words, and the rest.
function split(text, count) {
  const words = text.split(" ");
  return [...words.slice(0, count), words.slice(count).join(" ")];
}

async function answer(decoder, line) {
  const [request, rest] = split(line, 1);
  if (!(request in REQUESTS)) return "unsupported";
  try {
    return await REQUESTS[request](decoder, ...split(rest, OPERANDS[request] - 1));
  } catch (error) {
    if (!(error instanceof UigcError)) throw error;
    console.error(error.message);
    return `refused ${error.name}`;
  }
}

const precision = process.env.UIGC_PRECISION ?? null;
const decoder = await Decoder.open({ ort, bundle: fromFolder(bundle), precision });
for await (const line of createInterface({ input: process.stdin })) console.log(await answer(decoder, line));
await decoder.close();
