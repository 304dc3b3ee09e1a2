"""What the proof knows of a tensor: every element is a whole number of steps in an interval.

An element is ``m * 2^step`` with an integer m and ``low <= element <= high``, and m has at most ``bits`` significant
bits (trailing zeros do not count: a table of short reciprocals spans many steps, each with few bits). ``step``,
``low`` and ``high`` are scalars, or hold one entry for each index of the last axis, because every output of a linear
layer has a step of its own.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

ZERO_STEP = 127  # log2 of the step of what is always zero: any step would do, and the coarsest constrains nothing

Numbers = NDArray[np.float64]
Exponents = NDArray[np.int64]


@dataclass(frozen=True)
class Value:
    """``step`` is log2 of the step; ``dequantized`` are the integers behind a DequantizeLinear, as (low, high)."""

    dtype: str
    step: Exponents
    low: Numbers
    high: Numbers
    bits: int
    constant: NDArray[np.generic] | None = None
    dequantized: tuple[int, int] | None = None

    @property
    def magnitude(self) -> Numbers:
        return np.maximum(np.abs(self.low), np.abs(self.high))

    @property
    def largest(self) -> float:
        return float(self.magnitude.max(initial=0))

    @property
    def finest(self) -> int:
        return int(self.step.min(initial=ZERO_STEP))

    @property
    def is_float(self) -> bool:
        return self.dtype.startswith("float")

    def collapsed(self) -> Value:
        """The same without a last axis: one interval and one step for all elements."""
        if self.step.ndim == self.low.ndim == self.high.ndim == 0:
            return replace(self, constant=None)
        low, high = self.low.min(initial=np.inf), self.high.max(initial=-np.inf)
        if low > high:  # no element at all
            low = high = np.float64(0)
        return replace(self, step=np.array(self.finest), low=np.array(low), high=np.array(high), constant=None)


def width(magnitude: Numbers, step: Exponents) -> int:
    """Bits that any integer of up to ``magnitude / 2^step`` needs at most; 2^n itself needs one."""
    steps = float(np.ldexp(np.asarray(magnitude, np.float64), -np.asarray(step)).max(initial=0))
    return max(1, (max(1, int(np.ceil(steps))) - 1).bit_length())


def span(magnitude: Numbers, step: Exponents) -> float:
    """log2 of the number of steps, unrounded: what slack is measured with."""
    steps = float(np.ldexp(np.asarray(magnitude, np.float64), -np.asarray(step)).max(initial=0))
    return float(np.log2(max(steps, 1.0)))


def made(
    dtype: str, step: Exponents | int, low: Numbers | float, high: Numbers | float, bits: int | None = None
) -> Value:
    """A value from its parts; the interval bounds ``bits``, which may be known to be fewer."""
    low, high = np.asarray(low, np.float64), np.asarray(high, np.float64)
    exponents = np.asarray(step, np.int64)
    bound = width(np.maximum(np.abs(low), np.abs(high)), exponents)
    return Value(dtype, exponents, low, high, bound if bits is None else min(bits, bound))


def whole(dtype: str, low: float, high: float) -> Value:
    """Integers from ``low`` to ``high``."""
    return made(dtype, 0, low, high)


def lowest_bits(array: NDArray[np.generic]) -> Exponents:
    """log2 of the lowest set bit of each element; ``ZERO_STEP`` for zeros. Exact for every float and for |n| < 2^53."""
    mantissa, exponent = np.frexp(array.astype(np.float64))
    integers = np.ldexp(mantissa, 53).astype(np.int64)
    lowest = np.where(integers == 0, 1, integers & -integers)
    trailing = np.frexp(lowest.astype(np.float64))[1] - 1
    return np.where(integers == 0, ZERO_STEP, exponent - 53 + trailing).astype(np.int64)


def significant_bits(array: NDArray[np.generic]) -> int:
    """Most significant bits that an element has."""
    _, exponent = np.frexp(array.astype(np.float64))
    count = np.where(array == 0, 1, exponent - lowest_bits(array))
    return int(count.max(initial=1))


def constant(array: NDArray[np.generic]) -> Value:
    """All there is to know of an array. Non-finite elements have no steps: they raise ValueError."""
    if array.dtype == np.bool_ or not np.issubdtype(array.dtype, np.number):
        known = whole("bool", 0, 1)
        return replace(known, constant=array)
    if not np.isfinite(array.astype(np.float64)).all():
        raise ValueError("a constant that is not finite")
    axes = tuple(range(array.ndim - 1))
    step, low, high = lowest_bits(array), array.astype(np.float64), array.astype(np.float64)
    if not np.issubdtype(array.dtype, np.floating):
        step = np.zeros_like(step)
    if array.size == 0:
        return replace(whole(str(array.dtype), 0, 0), constant=array)
    step, low, high = step.min(axis=axes), low.min(axis=axes), high.max(axis=axes)
    return Value(str(array.dtype), step, low, high, significant_bits(array), array)
