// A bundle's files from a folder, for Node.js.

import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { BundleError } from "../uigc.js";

/** A source for `Decoder.open` that reads a folder. */
export const fromFolder = (folder) => ({
  async read(name) {
    const path = join(folder, name);
    return new Uint8Array(
      await readFile(path).catch((cause) => {
        throw new BundleError(`${path} cannot be read (${cause.code}): export the bundle again.`, { cause });
      }),
    );
  },
});
