// Which tokens belong to which stage, and which of them were sent (docs/FORMAT.md, section 2).

import { bitTable } from "./token_tables.js";

// Shares of a tile's positions that the leading stages hold which a mode sends whole.
const SENT = { entire: 1, edge: 1 / 2, edge_more: 1 / 4 };

// The ten bits of a context as (row, column) offsets, most significant first.
const CONTEXT = [[-2, -1], [-2, 0], [-2, 1], [-1, -2], [-1, -1], [-1, 0], [-1, 1], [-1, 2], [0, -2], [0, -1]];

/**
 * The positions of a stage in its order: by tile in raster order over the extended grid, and within a tile as listed.
 *
 * @param {number[][]} positions of the stage, [row, column] within the tile
 * @param {number} tile side in tokens
 * @param {{rows: number, columns: number}} extended the grid rounded up to whole windows
 * @returns {{row: number, column: number}[]} one for each row of the stage's predictions
 */
export function stageOrder(positions, tile, extended) {
  const order = [];
  for (let top = 0; top < extended.rows; top += tile) {
    for (let left = 0; left < extended.columns; left += tile) {
      for (const [row, column] of positions) order.push({ row: top + row, column: left + column });
    }
  }
  return order;
}

/** How many leading stages a mode sends whole. */
export function wholeStages(mode, stages) {
  const share = SENT[mode] * stages.flat().length;
  let held = 0;
  let count = 0;
  while (held < share) held += stages[count++].length;
  return count;
}

/**
 * Reads the edge bits, one for each block of 2x2 tokens.
 *
 * @param {import("./range_decoder.js").RangeDecoder} decoder
 * @param {{rows: number, columns: number}} grid size in tokens
 * @param {Int32Array} table `mask.table`, the probability of a 1 in 1/65536 for each of 1024 contexts
 * @returns {(row: number, column: number) => boolean} whether the bit of the token there is 1
 */
export function readEdgeBits(decoder, grid, table) {
  const [rows, columns] = [Math.ceil(grid.rows / 2), Math.ceil(grid.columns / 2)];
  const stride = columns + 4; // with a border of zeros: two columns on either side, two rows above
  const bits = new Uint8Array((rows + 2) * stride);
  const at = (row, column) => (row + 2) * stride + column + 2;
  const offsets = CONTEXT.map(([row, column]) => row * stride + column);
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      const here = at(row, column);
      const context = offsets.reduce((value, offset) => 2 * value + bits[here + offset], 0);
      bits[here] = decoder.symbol(bitTable(table[context]));
    }
  }
  return (row, column) => bits[at(row >> 1, column >> 1)] === 1;
}
