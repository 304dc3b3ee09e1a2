// CRC-32 as in zlib, gzip and PNG (docs/FORMAT.md, section 1).

const TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let remainder = byte;
  for (let bit = 0; bit < 8; bit++) remainder = (remainder >>> 1) ^ (remainder & 1 ? 0xedb88320 : 0);
  return remainder;
});

/** The CRC-32 of several runs of bytes, one after the other, as an integer from 0 to 2^32 - 1. */
export function crc32(...runs) {
  let crc = 0xffffffff;
  for (const bytes of runs) for (const byte of bytes) crc = (crc >>> 8) ^ TABLE[(crc ^ byte) & 255];
  return (crc ^ 0xffffffff) >>> 0;
}

/** The CRC-32 of a grid: its tokens in raster order, 4 bytes each, big-endian (section 3). */
export function gridCrc32(tokens) {
  const bytes = new DataView(new ArrayBuffer(4 * tokens.length));
  tokens.forEach((token, index) => bytes.setUint32(4 * index, token));
  return crc32(new Uint8Array(bytes.buffer));
}

export const hexadecimal = (value, digits = 8) => value.toString(16).padStart(digits, "0");
