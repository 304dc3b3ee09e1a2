"""The images of a calibration: some to observe ranges on, others, never the same, to measure what int8 costs.

Those that training holds out (by their names) are taken for measuring first, so that a collection that the networks
were trained on measures them on what they have not seen.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from uigc.runtime.errors import InputError, UigcError
from uigc.runtime.format.bitstream import PATCH
from uigc.runtime.io import image
from uigc.runtime.io.image_sources import Source, is_held_out, sources

SMALLEST, LARGEST = 64, 512  # pixels a side: what LPIPS needs, and what of an image is used


@dataclass(frozen=True)
class Photograph:
    """``sha256`` of the file; ``pixels`` uint8 (1, H, W, 3): its middle, sides multiples of 16."""

    name: str
    sha256: str
    pixels: NDArray[np.uint8]


def choose(place: Path, observed: int, measured: int, say: Callable[[str], None]) -> tuple[list[Photograph], ...]:
    """``observed`` images to observe and ``measured`` to measure, or two thirds and one third of fewer; which ones
    depends on nothing but their names."""
    found = sorted(sources(place), key=lambda source: hashlib.sha256(source.name.encode()).digest())
    if len(found) < 2:
        raise InputError(f"There are {len(found)} images in {place}, and calibration needs two; give more.")
    if len(found) < observed + measured:
        measured = min(measured, max(1, len(found) // 3))
    ranked = sorted(found, key=lambda source: not is_held_out(source.name))
    measuring, used = _take(ranked, measured, say)
    observing, _ = _take([source for source in reversed(ranked) if source not in used], observed, say)
    if not measuring or not observing:
        raise InputError(f"Fewer than two images in {place} can be used; give others of {SMALLEST} pixels or more.")
    return observing, measuring


def single_colours(side: int) -> list[NDArray[np.uint8]]:
    """Return images uint8 (1, side, side, 3) of black, white and the six saturated colours.

    Photographs hardly have such fields, and a decoder whose ranges were chosen by them alone clips what it computes for
    one.
    """
    return [np.full((1, side, side, 3), colour, np.uint8) for colour in itertools.product((0, 255), repeat=3)]


def _take(ranked: Iterable[Source], count: int, say: Callable[[str], None]) -> tuple[list[Photograph], set[Source]]:
    """Return the first ``count`` that can be read and are large enough, and all that were tried for them."""
    taken: list[Photograph] = []
    seen = set()
    for source in ranked:
        if len(taken) == count:
            break
        seen.add(source)
        data = source.read()
        try:
            pixels = image.read(data, image.Reading("white"))
        except UigcError as error:
            say(f"{source.name} is passed over: {error}")
            continue
        if min(pixels.shape[:2]) < SMALLEST:
            say(f"{source.name} is passed over: it has {pixels.shape[1]}x{pixels.shape[0]} pixels")
            continue
        taken.append(Photograph(source.name, hashlib.sha256(data).hexdigest(), _middle(pixels)))
    return taken, seen


def _middle(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    spans = [min(side, LARGEST) // PATCH * PATCH for side in pixels.shape[:2]]
    starts = [(side - span) // 2 for side, span in zip(pixels.shape[:2], spans, strict=True)]
    rows, columns = (slice(start, start + span) for start, span in zip(starts, spans, strict=True))
    return np.ascontiguousarray(pixels[rows, columns])[None]
