// node open.js BUNDLE...: opens bundles with a stand-in for ONNX Runtime, and prints the error of each as JSON, or null.

import { Decoder } from "../uigc.js";
import { fromFolder } from "../node/folder_source.js";

const ort = { InferenceSession: { create: async () => ({ release: async () => {} }) } };

for (const folder of process.argv.slice(2)) {
  const source = fromFolder(folder);
  const found = await Decoder.open({ ort, bundle: source }).then(() => null, (error) => error);
  console.log(JSON.stringify(found && { kind: found.name, exitCode: found.exitCode, message: found.message }));
}
