"""The windows of the prior's attention, and the order of the tokens in its stream of rows.

Windows shift up and left by half their side, rounded up to whole tiles, in every second block. The plane wraps around:
columns within a line of windows, rows as if the grids of the batch lay one below the other. Here are 6x6 tiles in
windows of 2x2 tiles, each tile with the name of its window::

    plain          shifted up and left by half a window
    a a b b c c    a b b c c a
    a a b b c c    d e e f f d
    d d e e f f    d e e f f d    e has four neighbouring tiles: all of them attend to each other.
    d d e e f f    g h h i i g    b has two tiles from the bottom edge: they attend to each other only, and so do its
    g g h h i i    g h h i i g    two tiles from the top edge.
    g g h h i i    a b b c c a    a has the four corners: each attends to itself only.

Which grid the tiles beyond an edge belong to does not matter, because they attend to each other only.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Layout:
    """The order of the tokens in a stream: grid by grid of the ``batch``, window by window (``lines`` of ``columns``
    windows), tile by tile (``side`` x ``side`` in a window), and ``per_tile`` tokens of each tile. The last ``asked``
    of these are predicted."""

    batch: int
    lines: int
    columns: int
    side: int
    per_tile: int
    asked: int

    @property
    def tokens(self) -> int:
        """Number of tokens in a window."""
        return self.side * self.side * self.per_tile

    def asked_rows(self, x: Tensor) -> Tensor:
        """Return the rows of the predicted tokens, out of those of all tokens (rows, width)."""
        width = x.shape[1]
        return x.view(-1, self.per_tile, width)[:, -self.asked :].reshape(-1, width)

    def in_coding_order(self, rows: Tensor) -> Tensor:
        """Return the order (batch, asked) in which to read what the last block returns, the rows of the predicted
        tokens: tile by tile of each whole grid. ``rows``: which of the last block's rows belongs to each place of the
        stream before windows were shifted."""
        shape = self.batch, self.lines, self.columns, self.side, self.side, self.per_tile
        rows = rows.view(shape)
        if self.asked < self.per_tile:
            # The tile that begins at row k * per_tile of the whole stream begins at row k * asked of the returned one.
            rows = rows[..., :1] // self.per_tile * self.asked + torch.arange(self.asked, device=rows.device)
        return rows.transpose(2, 3).reshape(self.batch, -1)

    def for_all_windows(self, table: Tensor, kinds: Tensor) -> Tensor:
        """Expand a table (2, 2, ...), as of :func:`shifted_attention`, to (lines, columns, ...).

        ``kinds``: 0 and then 1s, at least as many as there are lines or columns.
        """
        down, right = (kinds.narrow(0, 0, count) for count in (self.lines, self.columns))
        return table.index_select(0, down).index_select(1, right)


def shift_distance(side: int) -> int:
    """Return how many tiles windows of ``side`` x ``side`` tiles shift: half of them, rounded up."""
    return side - side // 2


def window_shifts(side: int, per_tile: int) -> Tensor:
    """Return where each of the n tokens of a window comes from when windows shift: int64 (2, 2, n).

    First axis: the shift up and left by half a window, and the shift back. Second axis: how many lines of windows
    further down the source is (-1, 0 or 1), and how many rows after the first row of the same window in that line.
    """
    tile = torch.arange(side)
    down, right, which = torch.meshgrid(tile, tile, torch.arange(per_tile), indexing="ij")
    sources = []
    for distance in (-shift_distance(side), shift_distance(side)):
        y, x = down + distance, right + distance
        inside = (y % side * side + x % side) * per_tile + which
        sources.append(torch.stack([y // side, x // side * side * side * per_tile + inside]).flatten(1))
    return torch.stack(sources)


def shifted_attention(above: Tensor, left: Tensor) -> Tensor:
    """Return which of the n tokens of a shifted window may attend to each other: bool (2, 2, 1, n, n).

    ``above``, ``left``: bool (n,), the tokens that come from beyond the upper and the left edge in a window at that
    edge. The first axis has an entry for the first line of windows (a, b, c above) and one for the others; the second
    axis has one for the first window of a line (a, d, g) and one for the others.
    """
    same_row, same_column = (side[:, None] == side[None, :] for side in (above, left))
    anywhere = torch.ones_like(same_row)
    kinds = torch.stack([torch.stack([same_row & same_column, same_row]), torch.stack([same_column, anywhere])])
    return kinds[:, :, None]


def relative_index(positions: list[tuple[int, int]], window: int) -> Tensor:
    """Return indices (n, n) into a table of (2 * window - 1)^2 offsets, for n (row, column) positions of a window."""
    rows, columns = (torch.tensor(axis) for axis in zip(*positions, strict=True))
    dy = rows[:, None] - rows[None, :] + window - 1
    dx = columns[:, None] - columns[None, :] + window - 1
    return (dy * (2 * window - 1) + dx).to(torch.int32)


@dataclass(frozen=True)
class RowOrders:
    """Orders in which to read a stream's rows: ``shift`` moves the windows up and left by half a window, ``unshift``
    back; ``asked`` (batch, asked) brings what the last block returns, the predicted tokens alone, into coding order."""

    shift: Tensor
    unshift: Tensor
    asked: Tensor
