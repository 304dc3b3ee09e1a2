"""Token grids and the windows of the prior: sizes, padding, and the part of a grid that a stage knows."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from uigc.runtime.arrays import Tokens
from uigc.runtime.format.schedule import Schedule

Scalar = TypeVar("Scalar", bound=np.generic)


def grid_shape(height: int, width: int, patch: int) -> tuple[int, int]:
    """Return the shape of the token grid of an image: its sides in patches, rounded up."""
    return -(-height // patch), -(-width // patch)


def padded_shape(height: int, width: int, window: int) -> tuple[int, int]:
    """Return the shape of a grid that is extended to whole windows."""
    return height + -height % window, width + -width % window


def pad_to_windows(grid: NDArray[Scalar], window: int, value: int) -> NDArray[Scalar]:
    """Extend a grid (..., height, width) with ``value`` at the bottom and on the right, to whole windows."""
    height, width = grid.shape[-2:]
    padded = np.full((*grid.shape[:-2], *padded_shape(height, width, window)), value, dtype=grid.dtype)
    padded[..., :height, :width] = grid
    return padded


def stage_context(grid: Tokens, stage: int, schedule: Schedule, window: int, unknown: int, pad: int) -> Tokens:
    """Return the input of ``stage`` for a grid (..., height, width) of which every earlier token was sent.

    Tokens of this stage and later ones are ``unknown``; the grid is extended to whole windows with ``pad``.
    """
    known = schedule.stage_of(*grid.shape[-2:]) < stage
    return pad_to_windows(np.where(known, grid, np.int32(unknown)), window, pad)
