// From the grid to pixels (docs/FORMAT.md, section 6), large images in tiles.

import { ProviderError } from "./errors.js";

const PATCH = 16;
const WHOLE = 8192; // tokens: images of up to 2 megapixels are painted in one piece
const TILE = 64; // tokens on a side of what is kept of a tile

/**
 * Paints the image of a grid.
 *
 * @param {Int32Array} tokens in raster order
 * @param {{width: number, height: number, rows: number, columns: number}} header
 * @param {import("./networks.js").Networks} networks
 * @param {{halo: number | null, planes: boolean}} decoder what a tile depends on around it, in tokens (null: on all);
 *   whether samples are planes of floats and not bytes
 * @param {(done: number, total: number) => void} onTile
 * @returns {Promise<Uint8ClampedArray>} red, green, blue and 255 for each pixel of the image
 */
export async function paintImage(tokens, header, networks, { halo, planes }, onTile = () => {}) {
  const rgba = new Uint8ClampedArray(4 * header.width * header.height).fill(255);
  const tiles = tilesOf(header, halo);
  for (const [index, tile] of tiles.entries()) {
    onTile(index, tiles.length);
    const part = cut(tokens, header.columns, tile.outer);
    const samples = await networks.paint(part, tile.outer.rows, tile.outer.columns, planes ? "float32" : "uint8");
    (planes ? copyPlanes : copyBytes)(samples, tile, rgba, header);
  }
  onTile(tiles.length, tiles.length);
  return rgba;
}

// Rectangles of tokens: `inner` is kept of each tile, and `outer` is computed.
function tilesOf({ rows, columns }, halo) {
  const whole = { top: 0, left: 0, rows, columns };
  if (halo === null || rows * columns <= WHOLE) return [{ inner: whole, outer: whole }];
  const tiles = [];
  for (let top = 0; top < rows; top += TILE) {
    for (let left = 0; left < columns; left += TILE) {
      const inner = { top, left, rows: Math.min(TILE, rows - top), columns: Math.min(TILE, columns - left) };
      const [outerTop, outerLeft] = [Math.max(top - halo, 0), Math.max(left - halo, 0)];
      const outer = {
        top: outerTop,
        left: outerLeft,
        rows: Math.min(top + inner.rows + halo, rows) - outerTop,
        columns: Math.min(left + inner.columns + halo, columns) - outerLeft,
      };
      tiles.push({ inner, outer });
    }
  }
  return tiles;
}

function cut(tokens, stride, { top, left, rows, columns }) {
  const part = new Int32Array(rows * columns);
  for (let row = 0; row < rows; row++) {
    const start = (top + row) * stride + left;
    part.set(tokens.subarray(start, start + columns), row * columns);
  }
  return part;
}

// Calls copy(source, target) with the indices of the first sample and pixel of a row, for all rows that are in the image.
function forRows({ inner, outer }, { width, height }, copy) {
  const left = PATCH * inner.left;
  const count = Math.min(PATCH * inner.columns, width - left);
  const bottom = Math.min(PATCH * (inner.top + inner.rows), height);
  for (let y = PATCH * inner.top; y < bottom; y++) {
    const source = (y - PATCH * outer.top) * PATCH * outer.columns + left - PATCH * outer.left;
    copy(source, y * width + left, count);
  }
}

function copyBytes(samples, tile, rgba, header) {
  forRows(tile, header, (source, target, count) => {
    for (let x = 0; x < count; x++) {
      for (let channel = 0; channel < 3; channel++) {
        rgba[4 * (target + x) + channel] = samples[3 * (source + x) + channel];
      }
    }
  });
}

function copyPlanes(samples, tile, rgba, header) {
  const plane = samples.length / 3;
  forRows(tile, header, (source, target, count) => {
    for (let x = 0; x < count; x++) {
      for (let channel = 0; channel < 3; channel++) {
        const sample = samples[channel * plane + source + x];
        if (!Number.isFinite(sample)) {
          throw new ProviderError(
            "The pixel decoder returned a sample that is not finite: its graph is broken or the graphics card fails, so " +
              "decode without WebGPU, or get the bundle anew.",
          );
        }
        // the array clips, and rounds halves to the even integer, as the format asks
        rgba[4 * (target + x) + channel] = Math.fround(255 * sample);
      }
    }
  });
}
