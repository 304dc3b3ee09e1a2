// A bundle's files from a folder, for Node.js.

import { readFile } from "node:fs/promises";
import { join } from "node:path";

export const fromFolder = (folder) => ({
  read: async (name) => new Uint8Array(await readFile(join(folder, name))),
});
