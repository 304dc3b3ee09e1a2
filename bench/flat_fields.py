"""How flat a codec leaves images of a single colour: black, white, grey and six saturated ones, at three sizes.

    python -m uigc.bench.flat_fields --json bench/results/flat_fields.json

In levels of 8-bit sRGB: ``unevenness`` is the largest difference of a pixel from the mean of its channel, away from the
border; ``difference`` the largest difference of such a mean from the colour that was sent. A border of two tokens is
left out, for which a decoder has nothing to go by on one side.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from uigc.bench.result import machine, write
from uigc.runtime.codec import Codec
from uigc.runtime.format.bitstream import PATCH

COLOURS = {
    "black": (0, 0, 0),
    "white": (255, 255, 255),
    "grey": (128, 128, 128),
    "red": (255, 0, 0),
    "green": (0, 255, 0),
    "blue": (0, 0, 255),
    "yellow": (255, 255, 0),
    "magenta": (255, 0, 255),
    "cyan": (0, 255, 255),
}
SIZES = ((128, 128), (250, 379), (512, 768))  # height, width; the second is of no whole number of tokens
BORDER = 2 * PATCH
FLAT, RIGHT = 2.0, 6.0  # levels within which a field counts as flat, and as of the right colour


class Coder(Protocol):
    """What is measured: a codec, or anything that compresses and decompresses as it does."""

    def compress(self, pixels: NDArray[np.uint8], mask: str = ..., /) -> bytes: ...

    def decompress(self, data: bytes, /) -> NDArray[np.uint8]: ...


@dataclass(frozen=True)
class Field:
    """One image: its colour, size, and how far it came back from flat and from its colour, in levels of 255."""

    colour: str
    height: int
    width: int
    unevenness: float
    difference: float

    @property
    def flat(self) -> bool:
        return self.unevenness <= FLAT

    @property
    def right(self) -> bool:
        return self.difference <= RIGHT


def judge(name: str, back: NDArray[np.uint8]) -> Field:
    """Return the figures of a decoded image uint8 (H, W, 3) that was of the colour ``name`` throughout."""
    height, width = back.shape[:2]
    inner = back[BORDER:-BORDER, BORDER:-BORDER].astype(np.float64)
    means = inner.mean((0, 1))
    unevenness = float(np.abs(inner - means).max())
    difference = float(np.abs(means - COLOURS[name]).max())
    return Field(name, height, width, round(unevenness, 2), round(difference, 2))


def measure(codec: Coder, mask: str = "entire") -> list[Field]:
    """Compress and decompress every field."""
    fields = []
    for height, width in SIZES:
        for name, colour in COLOURS.items():
            pixels = np.full((height, width, 3), colour, np.uint8)
            fields.append(judge(name, codec.decompress(codec.compress(pixels, mask))))
    return fields


def summary(fields: list[Field]) -> dict[str, object]:
    """Return the worst figures, and how many fields are flat and of the right colour."""
    return {
        "fields": len(fields),
        "flat": sum(field.flat for field in fields),
        "right": sum(field.right for field in fields),
        "worst_unevenness": max(field.unevenness for field in fields),
        "worst_difference": max(field.difference for field in fields),
    }


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m uigc.bench.flat_fields", description=__doc__)
    parser.add_argument("--bundle", help="bundle to measure instead of the default one")
    parser.add_argument("--mask", default="entire")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    given = parser.parse_args(arguments)
    fields = measure(Codec(given.bundle), given.mask)
    for field in fields:
        size = f"{field.width}x{field.height}"
        print(f"{field.colour:9}{size:>9}  uneven by {field.unevenness:6.2f}, colour off by {field.difference:6.2f}")
    found = summary(fields)
    print(f"{found['flat']} of {found['fields']} flat to {FLAT:g}, {found['right']} right to {RIGHT:g} of 255")
    if given.json:
        entries = [{**asdict(field), "flat": field.flat, "right": field.right} for field in fields]
        write(given.json, {**machine(), "mask": given.mask, "summary": found, "entries": entries})


if __name__ == "__main__":
    main()
