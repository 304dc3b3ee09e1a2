"""Weights in 8 bits: an integer for each weight, and a scale for each output channel.

A scale has four significant bits, so that the product with an integer of seven bits and a sign fits the eleven bits of
half precision: graphs in half precision and in float32 then compute with the same weights. Integers are stored with 128
added, because TensorRT takes a constant of type int8 for nothing but a quantized product.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from uigc.runtime.bundle.safetensors import TensorFile

Array = NDArray[Any]

SMALLEST = 1 << 20  # weights of a layer; where there are so many, the rounding errors of each matter least
LEVELS = 127
OFFSET = 128
SCALE_SUFFIX = ".scale"  # behind the name of stored integers, that of their scales
_MANTISSAS = range(8, 16)
_LEAST_EXPONENT = -24  # of half precision


def round_to_eight_bits(weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the nearest weights (output, ...) that 8 bits hold; weights that they hold already stay as they are."""
    if split(weights) is not None:
        return weights
    scales = np.min([_scales(weights, mantissa) for mantissa in _MANTISSAS], axis=0)
    # No zero has a sign, as none that is read back has one.
    return np.asarray(np.rint(weights / scales) * scales + np.float32(0), np.float32)


def split(array: Array) -> tuple[NDArray[np.uint8], NDArray[np.float32]] | None:
    """Return weights float32 (output, ...) as integers of the same shape, with ``OFFSET`` added, and scales (output, 1,
    ...) whose products are exactly these weights; None if there are none."""
    if array.dtype != np.float32 or array.ndim != 4:
        return None
    integers = np.zeros(array.shape, np.float32)
    scales = np.zeros((len(array), 1, 1, 1), np.float32)
    for mantissa in _MANTISSAS:
        tried = _scales(array, mantissa)
        rounded = np.rint(array / tried)
        exact = (rounded * tried == array).all(axis=(1, 2, 3))
        integers[exact], scales[exact] = rounded[exact], tried[exact]
    if not scales.all():
        return None
    return (integers + OFFSET).astype(np.uint8), scales


def read(file: TensorFile, name: str) -> NDArray[np.float32]:
    """Read weights as float32 from a bundle's file, in whichever precision that holds them."""
    array = file.read(name)
    if array.dtype == np.uint8:
        return np.asarray((array.astype(np.float32) - OFFSET) * file.read(name + SCALE_SUFFIX), np.float32)
    return array.astype(np.float32)


def _scales(weights: Array, mantissa: int) -> NDArray[np.float32]:
    """Return the smallest scales (output, 1, ...) with that mantissa by which no weight needs more than 7 bits."""
    largest = np.abs(weights).reshape(len(weights), -1).max(axis=1).astype(np.float64)
    needed = np.where(largest > 0, largest, 1) / (LEVELS * mantissa)
    exponents = np.maximum(np.ceil(np.log2(needed)), _LEAST_EXPONENT)
    return (mantissa * 2.0**exponents).astype(np.float32).reshape(-1, *[1] * (weights.ndim - 1))
