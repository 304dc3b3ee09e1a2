"""Checks of what a graph returns, so that a broken provider or bundle is an error and never an image."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from uigc.runtime.arrays import Predictions, Tokens
from uigc.runtime.errors import ProviderError
from uigc.runtime.format.entropy_coder import LARGEST_WEIGHT, low_digits

LARGEST_LOGIT = 2047  # steps of 1/32 nat; docs/EXACTNESS.md


def tokens_of(output: NDArray[Any], shape: tuple[int, ...], codebook: int) -> Tokens:
    """Return the encoder's tokens; raises a :class:`ProviderError` unless they are int32 codewords of that shape."""
    _check_array("encoder", output, np.int32, shape)
    _check_range("encoder", output, 0, codebook - 1)
    return output


def predictions_of(name: str, output: NDArray[Any], shape: tuple[int, ...], codebook: int) -> Predictions:
    """Return what a stage predicts; raises a :class:`ProviderError` unless it is int32 of that shape and in range.

    Of logits that come with sums, only the largest ones and the sums are looked at here: the entropy coder compares
    those of each token that it codes, or that is lost, with them.
    """
    _check_array(name, output, np.int32, shape)
    if shape[-1] == codebook:
        _check_range(name, output, -LARGEST_LOGIT, LARGEST_LOGIT)
    else:
        low = low_digits(codebook)
        _check_range(name, output[..., codebook:-1], low, low * LARGEST_WEIGHT, "weights")
        _check_range(name, output[..., -1], -LARGEST_LOGIT, LARGEST_LOGIT, "largest logits")
    return output


def pixels_of(output: NDArray[Any], shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Return the decoder's images; raises a :class:`ProviderError` unless they are uint8 of that shape."""
    _check_array("decoder", output, np.uint8, shape)
    return output


def planes_of(output: NDArray[Any], shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Return the planes of an earlier decoder; raises a :class:`ProviderError` unless they are finite float32 of that
    shape."""
    _check_array("decoder", output, np.float32, shape)
    if not np.isfinite(output).all():
        raise _broken("decoder", "values that are not finite", "numbers in [0, 1] were expected")
    return output


def _check_array(name: str, output: NDArray[Any], dtype: type[np.generic], shape: tuple[int, ...]) -> None:
    if not isinstance(output, np.ndarray) or output.dtype != dtype or output.shape != shape:
        found = f"{output.dtype} {output.shape}" if isinstance(output, np.ndarray) else type(output).__name__
        raise _broken(name, found, f"{np.dtype(dtype)} {shape} was expected")


def _check_range(name: str, output: NDArray[Any], low: int, high: int, what: str = "values") -> None:
    if output.size and not (low <= int(output.min()) and int(output.max()) <= high):
        raise _broken(name, f"{what} from {output.min()} to {output.max()}", f"{low} to {high} was expected")


def _broken(name: str, found: str, expected: str) -> ProviderError:
    return ProviderError(
        f"The graph {name!r} returned {found}, and {expected}; check bundle and provider with 'uigc verify'."
    )
