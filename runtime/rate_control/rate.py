"""How a user asks for the size or the quality of a file."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any, TypeVar

import numpy as np

from uigc.runtime.errors import UsageError
from uigc.runtime.format.bitstream import read_header
from uigc.runtime.format.mask import Mask, check_effort
from uigc.runtime.format.mask_mode import MaskMode
from uigc.runtime.token_codec import Encoded

LOG = logging.getLogger("uigc")
TOLERANCE = 0.03  # a file that is smaller than what was asked for by more than this share is explained
BEST = 100  # the largest quality
LARGEST = 2**53  # of all three measures, so that they are exact in floating point


@dataclass(frozen=True)
class Rate:
    """The rate of a file, by one of three measures; the others are None.

    ``bpp``: at most so many bits per pixel. ``size``: at most so many bytes, header included. ``quality``: 0..100, how
    many percent of the blocks are sent whole that the smallest file leaves out. ``effort``: as of :class:`Mask`.

    Raises a :class:`UsageError` unless exactly one of the three is given, and all are in their ranges.
    """

    bpp: float | None = None
    size: int | None = None
    quality: float | None = None
    effort: int = 1

    def __post_init__(self) -> None:
        check_effort(self.effort)
        measures = {"bpp": self.bpp, "size": self.size, "quality": self.quality}
        given: dict[str, Any] = {name: value for name, value in measures.items() if value is not None}
        if len(given) != 1:
            raise UsageError(f"{len(given)} of bpp, size and quality were given, and one is needed; give one.")
        ((name, value),) = given.items()
        if not _is_number(value):
            raise UsageError(f"{name} is {value!r}, and a number of at most {LARGEST} is needed; give one.")
        if name == "size" and (value < 1 or value != int(value)):
            raise UsageError(f"size is {value!r}, and a whole number of bytes from 1 on is needed; give one.")
        if name == "bpp" and value <= 0:
            raise UsageError(f"bpp is {value!r}, and a number of bits per pixel above 0 is needed; give one.")
        if name == "quality" and not 0 <= value <= BEST:
            raise UsageError(f"quality is {value!r}, and 0 to {BEST} is possible; give another.")

    @property
    def label(self) -> str:
        """What was asked for, in short: ``0.02bpp``, ``900B`` or ``q50``."""
        if self.bpp is not None:
            return f"{_digits(self.bpp)}bpp"
        return f"{self.size}B" if self.quality is None else f"q{_digits(self.quality)}"

    @property
    def searches(self) -> bool:
        """Whether an effort above 1 may change anything."""
        return self.quality not in (0, BEST)

    def blocks(self, count: int) -> int | None:
        """Return how many of so many blocks a quality sends whole; None for what is a limit of bytes."""
        return None if self.quality is None else round(self.quality / BEST * count)

    def budget(self, height: int, width: int) -> int | None:
        """Return the most bytes that the file of an image may have; None for a quality, which sets no limit."""
        if self.bpp is not None:
            # With room for the product's own rounding, so that 8 * bytes / pixels asks for those bytes again.
            return math.floor(float(self.bpp) * height * width / 8 * (1 + 1e-12))
        return None if self.size is None else int(self.size)


def _digits(value: float) -> str:
    """A number with every digit that it has, and never with an exponent."""
    return np.format_float_positional(float(value), trim="-")


def _is_number(value: Any) -> bool:
    real = isinstance(value, Real) and not isinstance(value, bool)
    return real and bool(-LARGEST <= value <= LARGEST)


def choose(
    mask: Mask | MaskMode | str | None,
    default: str,
    bpp: float | None,
    size: int | None,
    quality: float | None,
    effort: int = 1,
) -> Mask | Rate:
    """Return what decides on the tokens to send: a mask, by ``default`` the one of this name, or a rate.

    Raises a :class:`UsageError` if more than one of them is given, or one that is not possible, or an ``effort`` that
    would change nothing.
    """
    measures = {"mask": mask, "bpp": bpp, "size": size, "quality": quality}
    given = [name for name, value in measures.items() if value is not None]
    check_effort(effort)
    if len(given) > 1:
        raise UsageError(
            f"{' and '.join(given)} were given, and each of them decides how many tokens are sent; give one of "
            f"{', '.join(measures)}."
        )
    if given in ([], ["mask"]):
        chosen = Mask.parse(default if mask is None else mask)
        return chosen if effort == 1 else _searched(replace(chosen, effort=effort))
    return _searched(Rate(bpp, size, quality, effort))


Choice = TypeVar("Choice", Mask, Rate)


def _searched(choice: Choice) -> Choice:
    if choice.effort == 1 or choice.searches:
        return choice
    raise UsageError(
        f"{choice.label} leaves nothing to search for, so effort {choice.effort} would change nothing; leave it out, "
        "or give another mask or rate."
    )


def parse(choice: Mask | MaskMode | Rate | str) -> Mask | Rate:
    """Return a rate as it is, and the mask of anything else; raises a :class:`UsageError` for what is none."""
    return choice if isinstance(choice, Rate) else Mask.parse(choice)


def explained(encoded: Encoded, rate: Mask | Rate) -> Encoded:
    """Warn if a file is much smaller than its rate, in the sentence of :func:`shortfall`; return it as it is."""
    if sentence := shortfall(encoded.data, rate):
        LOG.warning("%s", sentence)
    return encoded


def shortfall(data: bytes, rate: Mask | Rate) -> str | None:
    """Return a sentence on why a file is smaller than its rate by more than 3 %; None if it is not."""
    if isinstance(rate, Mask):
        return None
    header = read_header(data)
    budget = rate.budget(header.height, header.width)
    if budget is None or len(data) >= (1 - TOLERANCE) * budget:
        return None
    if header.mode is MaskMode.ENTIRE:
        reason = "it holds every token of the image, and there is nothing more to send"
    else:
        reason = "the next larger file of this image that was found is above them"
    return f"The file has {len(data)} bytes of the {budget} asked for, because {reason}."
