// node many.js CHROMIUM ADDRESS THREADS FOLDER FILE...: decodes files one after the other in headless Chromium, with the
// module and Worker of the page at this address. Writes the pixels of each (red, green, blue, alpha) to FOLDER/NUMBER and
// prints a line of JSON for each, and before them one of how long the networks took to be ready.

import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { launch } from "./chromium.js";

const [executablePath, address, threads, folder, ...files] = process.argv.slice(2);
const browser = await launch(executablePath);
try {
  const page = await browser.newPage();
  await page.goto(address);
  console.log(JSON.stringify({ browser: browser.version(), ...(await page.evaluate(open, Number(threads))) }));
  for (const [number, file] of files.entries()) {
    const { pixels, ...found } = await page.evaluate(decode, (await readFile(file)).toString("base64"));
    await writeFile(join(folder, String(number)), Buffer.from(pixels, "base64"));
    console.log(JSON.stringify(found));
  }
} finally {
  await browser.close();
}

// The next two run in the page.
async function open(threads) {
  const { WorkerDecoder } = await import("./client.js");
  const start = performance.now();
  globalThis.decoder = new WorkerDecoder();
  const runtime = new URL("node_modules/onnxruntime-web/dist/", location.href).href;
  const bundle = new URL("bundle/", location.href).href;
  const backend = await globalThis.decoder.open({ runtime, bundle, webgpu: false, threads }, () => {});
  return { ...backend, milliseconds: performance.now() - start, isolated: crossOriginIsolated };
}

async function decode(base64) {
  const file = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
  const { hash, rgba, times } = await globalThis.decoder.decode(file, {}, () => {});
  const url = await new Promise((resolve) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.readAsDataURL(new Blob([rgba]));
  });
  return { hash, times, pixels: url.split(",")[1] };
}
