// Headless Chromium for all scripts of this folder: without what would reach for the network or a GPU by itself.

import { chromium } from "playwright-core";

const ARGUMENTS = [
  "--no-sandbox", // tests may run as root
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
  "--disable-gpu",
];

export const launch = (executablePath) => chromium.launch({ executablePath, args: ARGUMENTS });
