"""A second decoder, written from ``docs/FORMAT.md`` alone: plain integers, no numpy, no constriction.

It takes the graphs as functions and the bundle's tables as lists, and returns the token grid of a file.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tests.support.reference_coder import TOTAL, Reader, cumulative

Grid = list[list[int]]
ABOVE = [(-2, -1), (-2, 0), (-2, 1), (-1, -2), (-1, -1), (-1, 0), (-1, 1), (-1, 2), (0, -2), (0, -1)]
STAGES = [
    [(0, 0)],
    [(2, 2)],
    [(0, 2), (2, 0)],
    [(1, 1), (1, 3), (3, 1), (3, 3)],
    [(1, 0), (1, 2), (3, 0), (3, 2)],
    [(0, 1), (0, 3), (2, 1), (2, 3)],
]
FIRST_LOST = {0: 6, 1: 4, 2: 3}
DRAWN = 16


@dataclass(frozen=True)
class Model:
    """``logits(stage, grid)`` gives the rows of a stage; the rest is data of the bundle."""

    logits: Callable[[int, Grid], list[list[int]]]
    weights: Sequence[int]
    mask: Sequence[int]
    codebook: int
    window: int
    unknown: int
    pad: int


def decode(data: bytes, model: Model) -> Grid:
    assert data[:4] == b"UIG\1"
    mode, is_drawn = data[4] % DRAWN, data[4] >= DRAWN
    assert int.from_bytes(data[9:13], "big") == zlib.crc32(data[:9] + data[13:])
    numbers, position, seed = [], 13, None
    for index in range(3):
        if index == 2 and is_drawn:
            seed, position = data[position], position + 1
        value = 0
        while True:
            byte, position = data[position], position + 1
            value = value * 128 + byte % 128
            if byte < 128:
                break
        numbers.append(value)
    width, height, length = numbers[0] + 1, numbers[1] + 1, numbers[2]
    assert len(data) == position + length
    rows, columns = -(-height // 16), -(-width // 16)
    reader = Reader(data[position:])
    edges = read_edges(reader, -(-rows // 2), -(-columns // 2), model) if mode else None
    chances = chances_of(seed, rows * columns) if seed is not None else None
    grid = read_tokens(reader, rows, columns, FIRST_LOST[mode], edges, chances, model)
    crc = zlib.crc32(b"".join(token.to_bytes(4, "big") for row in grid for token in row))
    uniform = [i * (TOTAL // 256) for i in range(257)]
    assert [reader.read(uniform), reader.read(uniform)] == [crc >> 8 & 255, crc & 255]
    return grid


def read_edges(reader: Reader, rows: int, columns: int, model: Model) -> Grid:
    bits = [[0] * columns for _ in range(rows)]
    for y in range(rows):
        for x in range(columns):
            context = 0
            for dy, dx in ABOVE:
                inside = y + dy >= 0 and 0 <= x + dx < columns
                context = 2 * context + (bits[y + dy][x + dx] if inside else 0)
            bits[y][x] = reader.read([0, TOTAL - 256 * model.mask[context], TOTAL])
    return bits


def chances_of(seed: int, count: int) -> list[int]:
    """Philox4x64-10, of whose 64 bits the upper half is a token's number."""
    numbers: list[int] = []
    for block in range(1, -(-count // 4) + 1):
        x, key = [block, 0, 0, 0], [seed, 0]
        for _ in range(10):
            first, second = 0xD2E7470EE14C6C93 * x[0], 0xCA5A826395121157 * x[2]
            x = [second >> 64 ^ x[1] ^ key[0], second % 2**64, first >> 64 ^ x[3] ^ key[1], first % 2**64]
            key = [(key[0] + 0x9E3779B97F4A7C15) % 2**64, (key[1] + 0xBB67AE8584CAA73B) % 2**64]
        numbers += [value >> 32 for value in x]
    return numbers[:count]


def draw(row: list[int], number: int, model: Model) -> int:
    best = sorted(range(len(row)), key=lambda token: (-row[token], token))[:8]
    weights = [model.weights[min((row[best[0]] - row[token]) * 4 // 3, 448)] for token in best]
    point = number * sum(weights) >> 32
    return next(token for i, token in enumerate(best) if sum(weights[: i + 1]) > point)


def read_tokens(
    reader: Reader,
    rows: int,
    columns: int,
    lost_from: int,
    edges: Grid | None,
    chances: list[int] | None,
    model: Model,
) -> Grid:
    tall, wide = (-(-side // model.window) * model.window for side in (rows, columns))
    inside = [[y < rows and x < columns for x in range(wide)] for y in range(tall)]
    context = [[model.unknown if here else model.pad for here in row] for row in inside]
    grid = [[0] * columns for _ in range(rows)]
    low = 2 ** ((model.codebook.bit_length() - 1) // 2)
    for stage, positions in enumerate(STAGES):
        places = [(y + dy, x + dx) for y in range(0, tall, 4) for x in range(0, wide, 4) for dy, dx in positions]
        sent = {}
        for (y, x), row in zip(places, model.logits(stage, context), strict=True):
            if inside[y][x]:
                grid[y][x] = draw(row, chances[y * columns + x], model) if chances else row.index(max(row))
                if stage < lost_from or (edges and edges[y // 2][x // 2]):
                    sent[y, x] = [model.weights[min(max(row) - q, 448)] for q in row]
        sums = {p: [sum(w[i : i + low]) for i in range(0, len(w), low)] for p, w in sent.items()}
        high = {place: reader.read(cumulative(sums[place])) for place in sent}
        for (y, x), weights in sent.items():
            first = high[y, x] * low
            grid[y][x] = first + reader.read(cumulative(weights[first : first + low]))
        for y, x in sent:
            context[y][x] = grid[y][x]
    return grid
