// The page: files in, picture and facts out. Everything that takes time happens in worker.js.
//
// Parameters of the address: `file`, the address of a .uigc file; `bundle`, a folder below this page (default: bundle/);
// `webgpu=0`; `threads`; `max_pixels`.

import { WorkerDecoder, usableThreads } from "./client.js";
import { Comparison } from "./comparison.js";
import { LARGEST_FILE, MAX_PIXELS, UnrecognizedFileError, readHeader } from "./uigc.js";
import { describeBackend, describeFile, describeProgress, describeTimes } from "./words.js";

const parameters = new URLSearchParams(location.search);
const element = (id) => document.getElementById(id);
const comparison = new Comparison(element);
const settings = {
  runtime: new URL("node_modules/onnxruntime-web/dist/", location.href).href,
  bundle: bundleAddress(),
  webgpu: parameters.get("webgpu") !== "0",
  threads: Number(parameters.get("threads")) || usableThreads(),
};
const maxPixels = Number(parameters.get("max_pixels")) || MAX_PIXELS;
let decoder = null;
let latest = 0;

// A bundle decides every pixel and runs as code, so a link cannot bring one from another site.
function bundleAddress() {
  const address = new URL(parameters.get("bundle") ?? "bundle/", location.href);
  return (address.origin === location.origin ? address : new URL("bundle/", location.href)).href;
}

// The Worker starts with the first sound file; it is kept for the next ones, and replaced if opening failed.
function openDecoder() {
  decoder ??= startDecoder().catch((error) => {
    decoder = null;
    throw error;
  });
  return decoder;
}

async function startDecoder() {
  const start = performance.now();
  const worker = new WorkerDecoder();
  const backend = await worker.open(settings, showProgress).catch((error) => {
    worker.close();
    throw error;
  });
  return { worker, backend, milliseconds: performance.now() - start };
}

function showProgress(progress) {
  const { text, share } = describeProgress(progress);
  if (element("status").textContent !== text) element("status").textContent = text;
  element("progress").value = share;
}

function showError(error) {
  element("error").textContent = error.message;
  element("error").hidden = false;
  document.body.dataset.state = `error ${error.name}`;
}

async function show(blob, name) {
  const turn = ++latest;
  element("error").hidden = true;
  element("work").hidden = false;
  document.body.dataset.state = "busy";
  showProgress({ step: "read", done: 0, total: 1 });
  try {
    // One byte more than a file may have: enough to see that it is too long, and no reason to read a film.
    const file = new Uint8Array(await blob.slice(0, LARGEST_FILE + 1).arrayBuffer());
    readHeader(file); // what is no file is refused before anything is downloaded
    const { worker, backend, milliseconds } = await openDecoder();
    const image = await worker.decode(file, { maxPixels }, showProgress);
    if (turn === latest) showImage(image, { name, backend, milliseconds });
  } catch (error) {
    if (turn === latest) showError(error);
  } finally {
    if (turn === latest) element("work").hidden = true;
  }
}

function showImage({ header, hash, rgba, times }, { name, backend, milliseconds }) {
  comparison.showDecoded(rgba, header.width, header.height);
  element("name").textContent = name;
  element("facts").replaceChildren(...describeFile(header, hash));
  element("times").replaceChildren(...describeTimes(times));
  element("backend").textContent = describeBackend(backend, milliseconds);
  element("result").hidden = false;
  document.body.dataset.state = "done";
  document.body.dataset.hash = hash;
}

// Files of both kinds may come together: a .uigc file, and the original to compare it with.
async function take(files) {
  for (const file of files) {
    if (file.type.startsWith("image/") && !file.name.endsWith(".uigc")) await takeOriginal(file);
    else await show(file, file.name);
  }
}

async function takeOriginal(file) {
  element("error").hidden = true;
  try {
    await comparison.showOriginal(file);
  } catch {
    showError(new UnrecognizedFileError(`${file.name} is no image that this browser reads: choose a PNG.`));
  }
}

async function fetchFile(address) {
  try {
    const response = await fetch(address);
    if (!response.ok) throw new Error(`HTTP ${response.status}`);
    await show(await response.blob(), new URL(address, location.href).pathname.split("/").at(-1));
  } catch (error) {
    showError(new UnrecognizedFileError(`${address} cannot be loaded (${error.message}): check the link.`));
  }
}

for (const id of ["file", "reference"]) {
  element(id).addEventListener("change", async ({ target }) => {
    const files = [...target.files];
    target.value = ""; // so that the same file can be chosen again
    await (id === "file" ? show(files[0], files[0].name) : takeOriginal(files[0]));
  });
}
let depth = 0; // dragging enters and leaves every element on its way
const drag = (change) => document.body.classList.toggle("dragging", (depth = Math.max(0, depth + change)) > 0);
addEventListener("dragenter", () => drag(1));
addEventListener("dragleave", () => drag(-1));
addEventListener("dragover", (event) => event.preventDefault());
addEventListener("drop", (event) => {
  event.preventDefault();
  drag(-depth);
  take([...event.dataTransfer.files]);
});
element("save").addEventListener("click", () => comparison.save(element("name").textContent));
element("sample").addEventListener("click", () => fetchFile("sample.uigc"));
if (parameters.get("file")) fetchFile(parameters.get("file"));
fetch("sample.uigc", { method: "HEAD" }).then(({ ok }) => (element("sample").hidden = !ok), () => {});
