// node report.js CHROMIUM URL FOLDER: opens a page of `uigc report` in headless Chromium without a network, moves the
// first divider with the keyboard and exchanges what is compared, writes screenshots to the folder (light.png, dark.png,
// row.png), and prints one line of JSON.

import { join } from "node:path";
import { launch } from "./chromium.js";

const [executablePath, address, folder] = process.argv.slice(2);

const browser = await launch(executablePath);
try {
  const context = await browser.newContext({ viewport: { width: 1250, height: 900 }, colorScheme: "light" });
  await context.setOffline(true);
  const page = await context.newPage();
  const [complaints, requests] = [[], []];
  page.on("console", (message) => message.type() === "error" && complaints.push(message.text()));
  page.on("pageerror", (error) => complaints.push(String(error)));
  page.on("request", (request) => requests.push(request.url()));
  await page.goto(address);
  await page.waitForFunction(() => /^(done|error)/.test(document.body.dataset.state ?? ""), null, { timeout: 240_000 });
  await page.screenshot({ path: join(folder, "light.png"), fullPage: true });

  const found = await page.evaluate(() => ({
    state: document.body.dataset.state,
    images: [...document.images].map((image) => [image.naturalWidth, image.naturalHeight]),
    plots: [...document.querySelectorAll(".plot .title")].map((title) => title.textContent),
    curves: document.querySelectorAll(".plot .series").length,
    anchors: document.querySelectorAll(".plot .anchor").length,
    wide: document.documentElement.scrollWidth > innerWidth,
  }));
  if (found.images.length > 0) Object.assign(found, await slide(page));
  await page.emulateMedia({ colorScheme: "dark" });
  found.dark = await page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  await page.screenshot({ path: join(folder, "dark.png"), fullPage: true });
  await page.setViewportSize({ width: 380, height: 800 });
  found.narrow = await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth);
  found.requests = requests.filter((url) => !url.startsWith("data:")).length;
  console.log(JSON.stringify({ ...found, complaints }));
} finally {
  await browser.close();
}

// What the keyboard does to the first image: shown are the clipped areas and the words for screen readers.
async function slide(page) {
  const look = () =>
    page.evaluate(() => {
      const stage = document.querySelector(".stage");
      const clip = (side) => getComputedStyle(stage.querySelector(`.${document.body.dataset[side]}`)).clipPath;
      return {
        left: clip("left"),
        right: clip("right"),
        text: stage.querySelector("input").getAttribute("aria-valuetext"),
        shown: [...stage.querySelectorAll(".version")].filter((each) => each.offsetWidth > 0).length,
      };
    });
  const before = await look();
  await page.focus(".stage input");
  for (let press = 0; press < 10; press++) await page.keyboard.press("ArrowRight");
  const after = await look();
  await page.focus('input[name="left"]:checked');
  await page.keyboard.press("ArrowRight"); // from uigc to the peer, which is on the right: both change places
  const exchanged = await look();
  await page.check('input[name="row"]');
  const row = await look();
  await page.screenshot({ path: join(folder, "row.png"), fullPage: true });
  await page.uncheck('input[name="row"]');
  return { before, after, exchanged, row };
}
