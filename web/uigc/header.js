// The file's header (docs/FORMAT.md, section 1): what is refused, and in which order.

import { crc32, hexadecimal } from "./crc32.js";
import { CorruptFileError, UnrecognizedFileError, UnsupportedVersionError } from "./errors.js";

const MAGIC = [0x55, 0x49, 0x47];
const VERSION = 1;
const FIXED = 13; // bytes before the first number
const PATCH = 16;
const MODES = new Map([
  [0, { name: "entire", drawn: false }],
  [1, { name: "edge", drawn: false }],
  [2, { name: "edge_more", drawn: false }],
  [17, { name: "edge", drawn: true }],
  [18, { name: "edge_more", drawn: true }],
]);

/** A file has at most this many bytes: a payload of 2^21 - 1, and the 21 before it. */
export const LARGEST_FILE = 2 ** 21 + 20;

/**
 * Reads and checks the header of a .uigc file. What the bytes of any file may be: nothing is read beyond them, and
 * nothing is allocated by what they state.
 *
 * @param {Uint8Array} file all of its bytes, or the first LARGEST_FILE + 1 of them
 * @returns {{width: number, height: number, rows: number, columns: number, mode: string, drawn: boolean,
 *   seed: number, prior: string, bytes: number, payload: Uint8Array}} sizes in pixels and in tokens, and the first 8
 *   digits of the prior's id
 * @throws {UnrecognizedFileError | CorruptFileError | UnsupportedVersionError}
 */
export function readHeader(file) {
  if (file.length === 0 || MAGIC.some((byte, index) => index < file.length && file[index] !== byte)) {
    throw new UnrecognizedFileError("This is not a .uigc file: it does not begin with UIG; choose one that does.");
  }
  if (file.length < FIXED) {
    throw new CorruptFileError(
      `The file has ${file.length} bytes, and a .uigc file at least ${FIXED}: it was cut off, so get it anew.`,
    );
  }
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
  const whole = crc32(file.subarray(0, 9), file.subarray(FIXED)) === view.getUint32(9);
  const [version, mode] = [file[3], MODES.get(file[4])];
  if (whole && (version !== VERSION || !mode)) {
    const found = version === VERSION ? `mask mode ${file[4]}` : `version ${version}`;
    throw new UnsupportedVersionError(
      `The file has ${found}, which this decoder for version ${VERSION} does not know: use a newer decoder.`,
    );
  }
  const header = readFields(file, mode?.drawn ?? false);
  if (!whole) throw new CorruptFileError("The file's checksum is wrong: it was damaged on its way, so get it anew.");
  const prior = hexadecimal(view.getUint32(5));
  const grid = { rows: Math.ceil(header.height / PATCH), columns: Math.ceil(header.width / PATCH) };
  return { ...header, ...grid, mode: mode.name, drawn: mode.drawn, prior, bytes: file.length };
}

function readFields(file, drawn) {
  const reader = new NumberReader(file, FIXED);
  const width = reader.number(2, "width") + 1;
  const height = reader.number(2, "height") + 1;
  const seed = drawn ? reader.byte("seed") : 0;
  const length = reader.number(3, "length of the payload");
  const left = file.length - reader.offset;
  if (left !== length) {
    throw new CorruptFileError(
      `The payload should have ${length} bytes, and ${left} follow the header: the file was cut off or added to, ` +
        "so get it anew.",
    );
  }
  return { width, height, seed, payload: file.subarray(reader.offset) };
}

// Numbers are groups of 7 bits, most significant first; all bytes but the last have the high bit set.
class NumberReader {
  constructor(bytes, offset) {
    this.bytes = bytes;
    this.offset = offset;
  }

  byte(field) {
    if (this.offset === this.bytes.length) {
      throw new CorruptFileError(`The file ends before its ${field}: it was cut off, so get it anew.`);
    }
    return this.bytes[this.offset++];
  }

  number(longest, field) {
    let value = 0;
    for (let length = 1; ; length++) {
      const byte = this.byte(field);
      value = value * 128 + (byte & 127);
      const more = byte >= 128;
      if ((length === 1 && byte === 128) || (more && length === longest)) {
        throw new CorruptFileError(`The ${field} is no number of this format: the file was damaged, so get it anew.`);
      }
      if (!more) return value;
    }
  }
}
