"""The order in which the prior sees an image: which token positions belong to which stage.

A schedule is a pattern of stages that tiles the token grid. It is data: the bundle's manifest holds it, and the
modules, the exporter and the staged loop all use this class.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from uigc.runtime.errors import BundleError

MAX_TILE = 64  # tokens each way
Position = tuple[int, int]
Int = TypeVar("Int", np.int32, np.int64)


@dataclass(frozen=True)
class Schedule:
    """The stages of a ``tile`` x ``tile`` pattern of token positions.

    ``stages[k]`` lists the (row, column) positions inside a tile that stage k predicts, in coding order: tile by tile
    in raster order, and inside a tile in the order of this list. Every position belongs to exactly one stage.
    """

    tile: int
    stages: tuple[tuple[Position, ...], ...]

    def __post_init__(self) -> None:
        if type(self.tile) is not int or not 1 <= self.tile <= MAX_TILE:
            raise BundleError(
                f"The schedule's tile is {self.tile!r}, and 1 to {MAX_TILE} is needed; use the manifest that the "
                "exporter wrote."
            )
        flat = [position for stage in self.stages for position in stage]
        wanted = {(row, column) for row in range(self.tile) for column in range(self.tile)}
        if len(flat) != len(set(flat)) or set(flat) != wanted or not all(self.stages):
            raise BundleError(
                f"The schedule does not name every position of its {self.tile}x{self.tile} tile exactly once; "
                "use the manifest that the exporter wrote."
            )

    @classmethod
    def from_json(cls, tile: Any, stages: Any) -> Schedule:
        """Read a schedule from the entries of a manifest: an integer, and a list of lists of [row, column]."""
        if not _is_list(stages) or not all(_is_list(stage) and all(map(_is_position, stage)) for stage in stages):
            raise BundleError("The schedule's stages are not lists of positions; use the manifest of the exporter.")
        return cls(tile, tuple(tuple((row, column) for row, column in stage) for stage in stages))

    def to_json(self) -> dict[str, object]:
        """Return the schedule as a manifest holds it."""
        return {"tile": self.tile, "stages": [[list(position) for position in stage] for stage in self.stages]}

    def __len__(self) -> int:
        return len(self.stages)

    def active(self, stage: int) -> tuple[Position, ...]:
        """Return the positions that the graph of ``stage`` computes: those of earlier stages, then its own."""
        return tuple(position for earlier in self.stages[: stage + 1] for position in earlier)

    def leading(self, share: float) -> int:
        """Return how many leading stages it takes to hold at least ``share`` of the grid."""
        known = 0
        for stage, positions in enumerate(self.stages):
            known += len(positions)
            if known >= share * self.tile**2:
                return stage + 1
        return len(self.stages)

    def stage_of(self, height: int, width: int) -> NDArray[np.int8]:
        """Return a grid int8 (height, width) with the number of the stage that predicts each position."""
        grid = np.empty((height, width), dtype=np.int8)
        for stage, positions in enumerate(self.stages):
            for row, column in positions:
                grid[row :: self.tile, column :: self.tile] = stage
        return grid

    def gather(self, grid: NDArray[Int], stage: int) -> NDArray[Int]:
        """Return the values (n,) of a grid at the positions of a stage, in coding order.

        The sides of the grid are multiples of the tile.
        """
        rows, columns = zip(*self.stages[stage], strict=True)
        tile = self.tile
        tiles = grid.reshape(grid.shape[0] // tile, tile, grid.shape[1] // tile, tile)
        return np.ascontiguousarray(tiles[:, list(rows), :, list(columns)].transpose(1, 2, 0)).reshape(-1)

    def scatter(self, grid: NDArray[np.int32], stage: int, values: NDArray[np.int32]) -> None:
        """Write ``values`` (n,) into ``grid`` in place; the inverse of :meth:`gather`."""
        tile = self.tile
        tall, wide = grid.shape[0] // tile, grid.shape[1] // tile
        tiles = values.reshape(tall, wide, len(self.stages[stage]))
        for index, (row, column) in enumerate(self.stages[stage]):
            grid[row::tile, column::tile] = tiles[:, :, index]


def _is_list(value: Any) -> bool:
    return isinstance(value, list)


def _is_position(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(type(each) is int for each in value)


def quincunx() -> Schedule:
    """Return the default schedule: a quincunx refinement over 4x4 tiles.

    Its six stages are 1/16, 1/16, 1/8, 1/4, 1/4 and 1/4 of the grid. The stage of each token in a tile::

        0 5 2 5
        4 3 4 3     white squares of the checkerboard: stages 0-3
        2 5 1 5     black squares: stages 4-5
        4 3 4 3

    It refines the four phases of the published method (UIGC, ICME 2024), so that the first look at an image is coarser
    and cheaper.
    """
    odd, even = (1, 3), (0, 2)
    return Schedule(
        4,
        (
            ((0, 0),),
            ((2, 2),),
            ((0, 2), (2, 0)),
            tuple((row, column) for row in odd for column in odd),
            tuple((row, column) for row in odd for column in even),
            tuple((row, column) for row in even for column in odd),
        ),
    )
