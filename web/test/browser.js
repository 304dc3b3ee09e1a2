// node browser.js CHROMIUM URL PICTURE SCREENSHOT [FILE [ORIGINAL]]: drops files on the page in headless Chromium, writes
// what the canvas shows and a screenshot, and prints one line of JSON. Without FILE, the address names one.

import { readFile, writeFile } from "node:fs/promises";
import { basename } from "node:path";
import { launch } from "./chromium.js";

const [executablePath, address, picture, screenshot, file, original] = process.argv.slice(2);
const TYPES = { uigc: "image/x-uigc", png: "image/png", webp: "image/webp" };

const browser = await launch(executablePath);
try {
  const context = await browser.newContext({
    viewport: { width: Number(process.env.WIDTH ?? 1200), height: 900 },
    colorScheme: process.env.SCHEME ?? "light",
    reducedMotion: "reduce",
  });
  const page = await context.newPage();
  const complaints = [];
  page.on("console", (message) => message.type() === "error" && complaints.push(message.text()));
  page.on("pageerror", (error) => complaints.push(String(error)));
  await page.goto(address);
  if (file) await drop(page, original ? [file, original] : [file]);
  await page.waitForFunction(() => /^(done|error)/.test(document.body.dataset.state ?? ""), null, { timeout: 240_000 });
  await page.waitForFunction((wanted) => !wanted || !document.getElementById("original").hidden, Boolean(original));
  const found = await page.evaluate(() => ({
    state: document.body.dataset.state,
    hash: document.body.dataset.hash ?? null,
    isolated: crossOriginIsolated,
    error: document.getElementById("error").textContent,
    backend: document.getElementById("backend").textContent,
    times: document.getElementById("times").innerText,
    picture: document.getElementById("canvas").toDataURL("image/png").split(",")[1],
  }));
  found.kept = await page.evaluate(async () => (await (await caches.open("uigc-bundles")).keys()).length);
  await writeFile(picture, Buffer.from(found.picture, "base64"));
  await page.screenshot({ path: screenshot, fullPage: true });
  delete found.picture;
  console.log(JSON.stringify({ ...found, complaints }));
} finally {
  await browser.close();
}

// Files as if a user dropped them.
async function drop(page, paths) {
  const files = await Promise.all(
    paths.map(async (path) => ({
      name: basename(path),
      type: TYPES[path.split(".").at(-1)],
      base64: (await readFile(path)).toString("base64"),
    })),
  );
  await page.evaluate((all) => {
    const transfer = new DataTransfer();
    for (const { name, type, base64 } of all) {
      const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
      transfer.items.add(new File([bytes], name, { type }));
    }
    dispatchEvent(new DragEvent("drop", { dataTransfer: transfer }));
  }, files);
}
