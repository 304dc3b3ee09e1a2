"""The inputs of the kit: sizes, masks, grids and edge bits, the same on every machine.

No float network takes part. Numbers come from SHA-256, and grids that look like those of photographs come from the
prior, which draws them; so a bundle gives the same kit wherever it is written.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from uigc.runtime.arrays import Bits, Tokens
from uigc.runtime.format import mask
from uigc.runtime.format.grid import grid_shape
from uigc.runtime.format.mask import Mask
from uigc.runtime.format.mask_mode import MaskMode
from uigc.runtime.progress import silent
from uigc.runtime.token_codec import TokenCodec

SIZES = {
    "pixel": (1, 1),
    "token": (16, 16),
    "odd": (15, 17),
    "row": (9, 100),
    "column": (130, 16),
    "window": (250, 250),
    "beyond": (257, 257),
    "windows": (270, 530),
}
"""Height and width in pixels, by name. "beyond" is a pixel more than a window of 16 tokens, "windows" six of them."""
LONGEST = (1, 1 << 14)  # height and width of an image whose width takes two bytes
KINDS = (
    ("entire", "uniform", 0.0),
    ("entire", "drawn", 0.0),
    ("edge", "drawn", 0.3),
    ("edge_more", "drawn", 0.0),
    ("edge_more", "uniform", 1.0),
    ("edge+draw0", "uniform", 0.3),
    ("edge_more+draw255", "drawn", 0.3),
)
"""Mask, kind of grid, and share of the edge bits that are set."""


@dataclass(frozen=True)
class FileCase:
    """A file, and the grid (rows, columns) that a decoder ends with."""

    name: str
    mask: str
    size: tuple[int, int]
    data: bytes
    grid: Tokens


def numbers(label: str, shape: tuple[int, ...], limit: int) -> NDArray[np.int32]:
    """Return numbers from 0 to below ``limit``, at most 2^16, which SHA-256 makes of a label.

    They are the two-byte numbers, most significant byte first, of the digests of ``label/0``, ``label/1`` ..., each
    modulo ``limit``.
    """
    count = int(np.prod(shape))
    digests = (hashlib.sha256(f"{label}/{number}".encode()).digest() for number in range(-(-count // 16)))
    return (np.frombuffer(b"".join(digests), dtype=">u2")[:count] % limit).astype(np.int32).reshape(shape)


def grid_of(codec: TokenCodec, label: str, kind: str, size: tuple[int, int]) -> Tokens:
    """Return a token grid for an image of a size: ``uniform``, all codewords alike, or ``drawn`` by the prior."""
    grid = numbers(label, grid_shape(*size, codec.bundle.patch), codec.bundle.codebook)
    if kind == "uniform":
        return grid
    nothing = np.zeros(mask.block_shape(*grid.shape), dtype=bool)
    (drawn,) = codec.encode([grid], [size], Mask(MaskMode.EDGE_MORE, seed=len(label)), silent, [nothing])
    return drawn.grid


def file_cases(codec: TokenCodec) -> Iterator[FileCase]:
    """Yield files of every mask mode and size."""
    for place, size in SIZES.items():
        for text, kind, share in KINDS:
            yield _case(codec, f"{place}-{text}-{kind}", text, size, kind, share)
    yield _case(codec, "longest-edge_more-drawn", "edge_more", LONGEST, "drawn", 0.3)


def _case(codec: TokenCodec, name: str, text: str, size: tuple[int, int], kind: str, share: float) -> FileCase:
    grid, choice = grid_of(codec, name, kind, size), Mask.parse(text)
    edges: Bits = numbers(f"{name}/edges", mask.block_shape(*grid.shape), 1000) < 1000 * share
    (made,) = codec.encode([grid], [size], choice, silent, [edges])
    return FileCase(name, text, size, made.data, made.grid)


def stage_inputs(codec: TokenCodec) -> Iterator[tuple[str, int, Tokens]]:
    """Yield name, stage and tokens (batch, rows, columns) of inputs of each stage, in whole windows.

    "window": a drawn grid of one window as the stage sees it, its own tokens and those of later stages unknown;
    "lost": the same of six windows, with unknown ones among the earlier tokens; "any": two grids of two windows with
    all tokens that a stage accepts.
    """
    bundle, side = codec.bundle, codec.bundle.window
    small = grid_of(codec, "stages/window", "drawn", (side * bundle.patch, side * bundle.patch))
    large = grid_of(codec, "stages/lost", "drawn", (2 * side * bundle.patch, 3 * side * bundle.patch))
    for stage in range(len(bundle.schedule)):
        for name, grid, share in (("window", small, 0.0), ("lost", large, 0.3)):
            lost = numbers(f"stages/{name}/{stage}", grid.shape, 1000) < 1000 * share
            known = (bundle.schedule.stage_of(*grid.shape) < stage) & ~lost
            yield name, stage, np.where(known, grid, np.int32(bundle.unknown))[None]
        yield "any", stage, numbers(f"stages/any/{stage}", (2, side, 2 * side), bundle.pad + 1)
