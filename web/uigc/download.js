// Files of a bundle over HTTP, kept in the browser's Cache API under their hashes.

import { BundleError } from "./errors.js";
import { sha256 } from "./manifest.js";

const CACHE = "uigc-bundles";
const LARGEST_MANIFEST = 2 ** 24;

/**
 * A source of a bundle's files that downloads each of them once.
 *
 * @param {string | URL} url of the bundle's folder
 * @param {{keep?: boolean}} options keep: store files in the Cache API, if there is one
 * @returns {import("./bundle.js").Source}
 */
export function fromUrl(url, { keep = true } = {}) {
  const folder = new URL(url, globalThis.location?.href);
  if (!folder.pathname.endsWith("/")) folder.pathname += "/";
  return {
    async read(name, entry, onBytes = () => {}) {
      const address = new URL(name, folder);
      const cache = keep ? await openCache() : null;
      // The manifest is asked for every time, and taken from the cache only without a network.
      if (!entry) return readManifest(address, cache);
      address.searchParams.set("sha256", entry.sha256);
      const kept = await keptBytes(cache, address);
      // What was damaged on its way or on the disk is downloaded again, and not refused for ever.
      if (kept && (await sha256(kept)) === entry.sha256) return kept;
      const bytes = await download(address, entry.bytes, onBytes);
      await store(cache, address, bytes);
      return bytes;
    },
  };
}

// Private windows and full disks have no cache, and need none.
async function openCache() {
  try {
    return await globalThis.caches?.open(CACHE);
  } catch {
    return null;
  }
}

// What the cache holds of a file; null if that is nothing, or cannot be read.
async function keptBytes(cache, address) {
  try {
    const kept = await cache?.match(address);
    return kept ? new Uint8Array(await kept.arrayBuffer()) : null;
  } catch {
    return null;
  }
}

async function readManifest(address, cache) {
  let bytes;
  try {
    bytes = await download(address, LARGEST_MANIFEST, () => {});
  } catch (error) {
    const kept = await keptBytes(cache, address);
    if (!kept) throw error;
    return kept;
  }
  await store(cache, address, bytes);
  return bytes;
}

// Of each file, only the newest version is kept.
async function store(cache, address, bytes) {
  try {
    for (const older of (await cache?.keys(address, { ignoreSearch: true })) ?? []) await cache.delete(older);
    await cache?.put(address, new Response(bytes));
  } catch {
    // a full disk: the file is downloaded again next time
  }
}

async function download(address, largest, onBytes) {
  const unreachable = (cause) => {
    throw new BundleError(`${address.pathname} cannot be reached: check the address and the connection.`, { cause });
  };
  const response = await fetch(address, { cache: "no-cache" }).catch(unreachable);
  if (!response.ok) {
    throw new BundleError(
      `${address.pathname} is not there (HTTP ${response.status}): export a bundle to that place, or name another.`,
    );
  }
  const chunks = [];
  let count = 0;
  for await (const chunk of iterate(response.body, unreachable)) {
    count += chunk.length;
    if (count > largest) throw new BundleError(`${address.pathname} is larger than stated: get the bundle anew.`);
    chunks.push(chunk);
    onBytes(count);
  }
  return concatenate(chunks, count);
}

// Streams are not iterable in every browser yet. Leaving the loop early ends the download; `onError` is called with what
// ends it from outside, such as a lost connection.
async function* iterate(stream, onError) {
  const reader = stream.getReader();
  try {
    for (;;) {
      const { done, value } = await reader.read().catch(onError);
      if (done) return;
      yield value;
    }
  } finally {
    await reader.cancel().catch(() => {});
  }
}

function concatenate(chunks, count) {
  const bytes = new Uint8Array(count);
  let offset = 0;
  for (const chunk of chunks) {
    bytes.set(chunk, offset);
    offset += chunk.length;
  }
  return bytes;
}
