"""Targets that read whole .uigc files: the header alone, and everything down to the token grid."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from uigc.fuzz.changes import NUMBERS
from uigc.fuzz.stand_in import stand_in
from uigc.fuzz.target import Change, Target
from uigc.runtime.arrays import Bits, Tokens
from uigc.runtime.bundle.manifest import MASK_TABLE
from uigc.runtime.conformance.faults import FIXED, Parts, checksum, with_checksum
from uigc.runtime.format import bitstream, mask, mask_coding
from uigc.runtime.format.bitstream import Header
from uigc.runtime.format.grid import grid_shape
from uigc.runtime.format.mask import Mask
from uigc.runtime.format.mask_mode import MaskMode
from uigc.runtime.format.range_coder import SymbolReader
from uigc.runtime.outcomes import unwrap
from uigc.runtime.progress import silent
from uigc.runtime.token_codec import TokenCodec


def kind(data: bytes) -> str:
    """Tell whether the reader gets past the checksum."""
    holds = data[:3] == bitstream.MAGIC and len(data) >= FIXED and data[FIXED - 4 : FIXED] == checksum(data)
    return ".uigc files, checksum right" if holds else ".uigc files, checksum wrong"


@functools.cache
def _base() -> Parts:
    """Return a file whose header is right."""
    prior = stand_in().bundle.prior_id[: bitstream.PRIOR_ID_BYTES]
    return Parts(bitstream.VERSION, MaskMode.EDGE, prior, 99, 39, 7, bytes(range(200, 230)))


def mutate(data: bytes, rng: random.Random, change: Change) -> bytes:
    """Alter a file: bytes anywhere, fields, the payload, or another file made anew; most get a right checksum."""
    parts, way = Parts.of(data), rng.random()
    if parts is None and way >= 0.2:
        parts = _base()  # most of what is behind the header is out of reach of what does not parse
    if parts is None or way < 0.1:
        found = change(data)
        return with_checksum(found) if len(found) >= FIXED and rng.random() < 0.5 else found
    if way < 0.25:
        return with_checksum(data[:FIXED] + change(data[FIXED:]))
    if way < 0.55:
        return _with_another_field(parts, rng)
    if way < 0.99:
        return replace(parts, payload=change(parts.payload)[: bitstream.MAX_PAYLOAD]).pack()
    return valid(rng)


def _with_another_field(parts: Parts, rng: random.Random) -> bytes:
    number = rng.choice((*NUMBERS, rng.randrange(512)))
    match rng.randrange(8):
        case 0:
            return replace(parts, width=number).pack()
        case 1:
            return replace(parts, height=number).pack()
        case 2 | 3:
            return replace(parts, setting=rng.choice((0, 1, 2, 17, 18, number & 255))).pack()
        case 4:
            return replace(parts, seed=number & 255).pack()
        case 5:
            return replace(parts, version=number & 255).pack()
        case 6:
            return replace(parts, prior_id=rng.randbytes(4)).pack()
        case _:
            return parts.pack(rng.choice((number, max(0, len(parts.payload) + rng.choice((-1, 1))))))


def valid(rng: random.Random) -> bytes:
    """Return a file of a random grid that the stand-in decodes."""
    height, width = rng.choice(((1, 1), (16, 16), (17, 40), (rng.randrange(1, 200), rng.randrange(1, 200))))
    shape = grid_shape(height, width, bitstream.PATCH)
    generator = np.random.default_rng(rng.randrange(1 << 30))
    grid = generator.integers(0, stand_in().bundle.codebook, shape, dtype=np.int32)
    edges = generator.random(mask.block_shape(*shape)) < rng.choice((0, 0.3, 1))
    mode = rng.choice(list(MaskMode))
    seed = None if mode is MaskMode.ENTIRE or rng.random() < 0.5 else rng.randrange(256)
    edges &= mode is not MaskMode.ENTIRE
    return encoded(stand_in(), grid, (height, width), Mask(mode, seed=seed), edges)


def encoded(codec: TokenCodec, grid: Tokens, size: tuple[int, int], choice: Mask, edges: Bits) -> bytes:
    """Return the file of one grid; ``size``: height and width in pixels."""
    (found,) = codec.encode([grid], [size], choice, silent, [edges])
    return found.data


@functools.cache
def _mask_table() -> np.ndarray[tuple[int, ...], np.dtype[np.int32]]:
    return stand_in().bundle.table(MASK_TABLE)


def check_header(data: bytes) -> str:
    """Parse a file; what is accepted is the one way to write it."""
    header, payload = bitstream.unpack(data)
    assert bitstream.pack(header, payload) == data
    return "read"


def check_file(data: bytes) -> str:
    """Decode a file twice; encoded again, its grid comes back."""
    codec = stand_in()
    header, _ = file = codec.parse(data)
    first, second = codec.decode([file, file], silent)
    assert type(first) is type(second)
    grid = unwrap(first)
    assert np.array_equal(grid, unwrap(second))
    shape = grid_shape(header.height, header.width, bitstream.PATCH)
    assert grid.shape == shape
    assert grid.min() >= 0
    assert grid.max() < codec.bundle.codebook
    again = encoded(codec, grid, (header.height, header.width), Mask(header.mode, seed=header.seed), _edges(file))
    (third,) = codec.decode([codec.parse(again)], silent)
    assert np.array_equal(grid, unwrap(third))
    return "decoded"


def _edges(file: tuple[Header, bytes]) -> Bits:
    """Read the edge bits of a file."""
    header, payload = file
    shape = mask.block_shape(*grid_shape(header.height, header.width, bitstream.PATCH))
    if header.mode is MaskMode.ENTIRE:
        return np.zeros(shape, dtype=bool)
    return mask_coding.read_bits(SymbolReader(payload), shape, mask_coding.MaskModels(_mask_table()))


def seeds() -> dict[str, bytes]:
    """Make files by name that the stand-in decodes."""
    return {f"stand-in-{name}": data for name, data in valid_files(_encode).items()}


def valid_files(encode: Callable[[int, int, Mask, int], bytes]) -> dict[str, bytes]:
    """Make files of many shapes by name; ``encode(height, width, mask, number)`` makes one."""
    files = {}
    sizes = {"pixel": (1, 1), "token": (16, 16), "row": (9, 100), "column": (130, 16), "windows": (260, 270)}
    masks = Mask(MaskMode.ENTIRE), Mask(MaskMode.EDGE), Mask(MaskMode.EDGE_MORE, seed=7)
    for number, (name, (height, width)) in enumerate(sizes.items()):
        for choice in masks:
            files[f"{name}-{choice.label}"] = encode(height, width, choice, number)
    return files


def _encode(height: int, width: int, choice: Mask, number: int) -> bytes:
    """Return a file of the stand-in."""
    shape = grid_shape(height, width, bitstream.PATCH)
    generator = np.random.default_rng(number)
    grid = generator.integers(0, stand_in().bundle.codebook, shape, dtype=np.int32)
    edges = (generator.random(mask.block_shape(*shape)) < 0.3) & (choice.mode is not MaskMode.ENTIRE)
    return encoded(stand_in(), grid, (height, width), choice, edges)


HEADER = Target("header", check_header, mutate, seeds, ".uigc", kind, 0.62)
FILE = Target("file", check_file, mutate, seeds, ".uigc", kind, 0.02)
