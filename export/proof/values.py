"""Abstract values of the proof: every element of a tensor is a whole number of steps in an interval.

An element is ``m * 2^exponent`` with an integer m and ``low <= element <= high``, and m has at most ``bits``
significant bits (trailing zeros do not count: a table of short reciprocals spans many steps, but each entry has few
bits). The step is ``2^exponent``. ``exponent``, ``low`` and ``high`` are scalars, or have one entry for each index of
the last axis, because every output of a linear layer has its own step.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

ZERO_EXPONENT = 127  # of a tensor of zeros: any step is right, and the coarsest one constrains nothing

Numbers = NDArray[np.float64]
Exponents = NDArray[np.int64]


@dataclass(frozen=True)
class Value:
    """The proven properties of one tensor.

    ``constant``: its elements, if they are known; ``dequantized``: for the output of a DequantizeLinear, the interval
    (low, high) of its integers; ``reach``: for the output of a matrix product, the largest magnitude of its partial
    sums, with one entry for all or for each index of the last axis.
    """

    dtype: str
    exponent: Exponents
    low: Numbers
    high: Numbers
    bits: int
    constant: NDArray[np.generic] | None = None
    dequantized: tuple[int, int] | None = None
    reach: Numbers | None = None

    @property
    def partial(self) -> Numbers:
        """The largest magnitude of the elements and of the partial sums that they were made of."""
        return self.magnitude if self.reach is None else self.reach

    @property
    def magnitude(self) -> Numbers:
        return np.maximum(np.abs(self.low), np.abs(self.high))

    @property
    def largest(self) -> float:
        """The largest magnitude of all elements."""
        return float(self.magnitude.max(initial=0))

    @property
    def finest(self) -> int:
        """The smallest exponent of all elements."""
        return int(self.exponent.min(initial=ZERO_EXPONENT))

    @property
    def is_float(self) -> bool:
        return self.dtype.startswith("float")

    def collapsed(self) -> Value:
        """Return this value with one interval and one step for all elements, without entries for the last axis."""
        if self.exponent.ndim == self.low.ndim == self.high.ndim == 0:
            return replace(self, constant=None)
        low, high = self.low.min(initial=np.inf), self.high.max(initial=-np.inf)
        if low > high:  # there are no elements
            low = high = np.float64(0)
        finest, reach = np.array(self.finest), None if self.reach is None else np.array(self.reach.max(initial=0))
        return replace(self, exponent=finest, low=np.array(low), high=np.array(high), constant=None, reach=reach)


def _most_steps(magnitude: Numbers, exponent: Exponents) -> float:
    return float(np.ldexp(np.asarray(magnitude, np.float64), -np.asarray(exponent)).max(initial=0))


def integer_bits(magnitude: Numbers, exponent: Exponents) -> int:
    """Return how many significant bits an integer of up to ``magnitude / 2^exponent`` can need; 2^n needs only one."""
    return max(1, (max(1, int(np.ceil(_most_steps(magnitude, exponent)))) - 1).bit_length())


def log2_steps(magnitude: Numbers, exponent: Exponents) -> float:
    """Return log2 of ``magnitude / 2^exponent``, unrounded and at least 0; slack is measured in it."""
    return float(np.log2(max(_most_steps(magnitude, exponent), 1.0)))


def interval(
    dtype: str, exponent: Exponents | int, low: Numbers | float, high: Numbers | float, bits: int | None = None
) -> Value:
    """Return a value from ``low`` to ``high``; these bound ``bits``, which the caller may know to be fewer."""
    low, high = np.asarray(low, np.float64), np.asarray(high, np.float64)
    exponents = np.asarray(exponent, np.int64)
    bound = integer_bits(np.maximum(np.abs(low), np.abs(high)), exponents)
    return Value(dtype, exponents, low, high, bound if bits is None else min(bits, bound))


def integers(dtype: str, low: Numbers | float, high: Numbers | float) -> Value:
    """Return a value of integers from ``low`` to ``high``."""
    return interval(dtype, 0, low, high)


def lowest_bits(array: NDArray[np.generic]) -> Exponents:
    """Return log2 of the lowest set bit of each element, and ``ZERO_EXPONENT`` for zeros.

    Exact for every float and for integers below 2^53.
    """
    mantissa, exponent = np.frexp(array.astype(np.float64))
    significands = np.ldexp(mantissa, 53).astype(np.int64)
    lowest = np.where(significands == 0, 1, significands & -significands)
    trailing = np.frexp(lowest.astype(np.float64))[1] - 1
    return np.where(significands == 0, ZERO_EXPONENT, exponent - 53 + trailing).astype(np.int64)


def significant_bits(array: NDArray[np.generic]) -> int:
    """Return the largest number of significant bits of any element."""
    _, exponent = np.frexp(array.astype(np.float64))
    count = np.where(array == 0, 1, exponent - lowest_bits(array))
    return int(count.max(initial=1))


def constant(array: NDArray[np.generic]) -> Value:
    """Return the tightest value of an array; raises ValueError if an element is not finite, because it has no step."""
    if array.dtype == np.bool_ or not np.issubdtype(array.dtype, np.number):
        known = integers("bool", 0, 1)
        return replace(known, constant=array)
    if not np.isfinite(array.astype(np.float64)).all():
        raise ValueError("an element is not finite")
    axes = tuple(range(array.ndim - 1))
    exponent, low, high = lowest_bits(array), array.astype(np.float64), array.astype(np.float64)
    if not np.issubdtype(array.dtype, np.floating):
        exponent = np.zeros_like(exponent)
    if array.size == 0:
        return replace(integers(str(array.dtype), 0, 0), constant=array)
    exponent, low, high = exponent.min(axis=axes), low.min(axis=axes), high.max(axis=axes)
    return Value(str(array.dtype), exponent, low, high, significant_bits(array), array)
