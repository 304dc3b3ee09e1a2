"""The prior in integers: slow, independent of every graph, and correct by construction.

It uses int64 arithmetic alone, on the weights as ``weights.safetensors`` holds them. All graphs, precisions and
providers are compared with it, and it is the shortest text from which the prior can be written in another language
(``docs/EXACTNESS.md``). Windows are lists of tokens here, not reshapes and masks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache, cached_property

import numpy as np
from numpy.typing import NDArray

from uigc.runtime.format.schedule import Position, Schedule

Ints = NDArray[np.int64]

FRACTION = 24  # weights are whole multiples of 2^-24
ARITHMETIC = 3  # the version of these rules that a bundle's configuration names
ACTIVATION = (-128, 127)  # in steps of 2^-5
POSITIVE = (0, 127)
RESIDUAL = (-2047, 2047)  # in steps of 2^-7
CONTEXT_LIMIT = 127 * 128  # bound of the mean of n products of a weight and an activation
LOGIT = (-2047, 2047)  # in steps of 2^-5 nat


def fixed(array: NDArray[np.floating]) -> Ints:
    """Return float16 or float32 numbers times 2^24, read from their bits."""
    half = array.dtype == np.float16
    bits = array.view(np.uint16 if half else np.uint32).astype(np.int64)
    digits, bias, top = (10, 15, 15) if half else (23, 127, 31)
    exponent = (bits >> digits) & (2 ** (top - digits) - 1)
    significand = (bits & (2**digits - 1)) + np.where(exponent > 0, 2**digits, 0)
    shift = FRACTION - bias - digits + np.maximum(exponent, 1)
    integers = np.where(shift >= 0, significand << np.maximum(shift, 0), significand >> np.minimum(-shift, 62).clip(0))
    return np.where(bits >> top == 1, -integers, integers)


def rounded(value: Ints, bits: int) -> Ints:
    """Return value / 2^bits, rounded to the nearest integer, half to even."""
    if bits == 0:
        return value
    quotient, rest, half = value >> bits, value & (2**bits - 1), 1 << (bits - 1)
    return quotient + ((rest > half) | ((rest == half) & (quotient & 1 == 1)))


def reciprocal(whole: int) -> int:
    """Return 32 / max(whole + 1/2, 8) with a significand of 9 bits, times 2^24."""
    halves = max(2 * whole + 1, 16)
    exponent = 1 - (halves - 1).bit_length()  # of the largest power of two not above 2 / halves
    significand, rest = divmod(2 ** (9 - exponent), halves)
    return (significand + (2 * rest > halves)) << (FRACTION + 5 + exponent - 8)


@cache
def reciprocals(limit: int) -> Ints:
    """Return the table of :func:`reciprocal` for 0..limit."""
    return np.array([reciprocal(whole) for whole in range(limit + 1)], np.int64)


def norm(x: Ints, limit: int) -> Ints:
    """Return x / mean|x| over the last axis, as activations."""
    whole = np.abs(x).sum(-1) >> (x.shape[-1].bit_length() - 1)
    return rounded(x * reciprocals(limit)[whole][..., None], FRACTION).clip(*ACTIVATION)


def with_sums(logits: NDArray[np.int32], table: NDArray[np.int32]) -> NDArray[np.int32]:
    """Return logits (..., codebook), the weights of the high digits, and the largest logit, as a stage's graph does.

    ``table``: the weight of a logit by its distance below the largest.
    """
    largest, codebook = logits.max(axis=-1, keepdims=True), logits.shape[-1]
    high = 1 << (codebook.bit_length() // 2)  # half of the bits of a codeword, rounded up
    weights = table[np.minimum(largest - logits, len(table) - 1)].reshape(*logits.shape[:-1], high, -1)
    return np.concatenate([logits, weights.sum(axis=-1), largest], axis=-1).astype(np.int32)


class ReferencePrior:
    """The prior of a bundle.

    ``read(name)`` returns a tensor of the weights file; ``config`` and ``schedule`` are those of the manifest.
    """

    def __init__(
        self, read: Callable[[str], NDArray[np.floating]], config: Mapping[str, int], schedule: Schedule
    ) -> None:
        if config["arithmetic"] != ARITHMETIC:
            raise ValueError(f"The bundle's arithmetic is {config['arithmetic']} and this is {ARITHMETIC}.")
        self.config, self.schedule = config, schedule
        self._read = cache(lambda name: fixed(np.ascontiguousarray(read(f"prior.{name}.weight"))))

    def logits(self, tokens: NDArray[np.int32], stage: int) -> NDArray[np.int32]:
        """Return the logits (batch, positions, codebook) of a stage for tokens (batch, height, width).

        Height and width are multiples of the window.
        """
        active, tile = self.schedule.active(stage), self.schedule.tile
        where = self._positions(active, tokens.shape[1], tokens.shape[2])
        places = self._read("places")[[stage * tile**2 + row % tile * tile + column % tile for row, column in where]]
        asked = [
            i for i, (row, column) in enumerate(where) if (row % tile, column % tile) in self.schedule.stages[stage]
        ]
        rows, columns = np.array(where).T
        results = []
        for grid in tokens:
            x = ((self._read("tokens")[grid[rows, columns]] + places) >> FRACTION).clip(*RESIDUAL)
            for layer in range(self.config["layers"]):
                x = self._block(x, np.array(where), len(active) * (self.config["window"] // tile) ** 2, layer)
            results.append(self._head(x[asked]))
        return np.stack(results).astype(np.int32)

    def _positions(self, active: tuple[Position, ...], height: int, width: int) -> list[Position]:
        """List the active positions tile by tile, and inside a tile in the order of the schedule."""
        tile = self.schedule.tile
        return [
            (down + row, right + column)
            for down in range(0, height, tile)
            for right in range(0, width, tile)
            for row, column in active
        ]

    def _linear(self, x: Ints, name: str) -> Ints:
        """Return x times a weight matrix, in steps of 2^-24 of the output's unit."""
        # einsum, because numpy's matmul of integers is several times slower.
        return np.einsum("ni,oi->no", x, self._read(name))

    def _head(self, x: Ints) -> Ints:
        """Return the logits (n, codebook) of tokens x (n, width)."""
        return rounded(self._linear(norm(x, RESIDUAL[1]), "head") + self._read("bias"), FRACTION).clip(*LOGIT)

    def _block(self, x: Ints, where: Ints, tokens: int, layer: int) -> Ints:
        """Apply one block to x (n, width); ``tokens`` is the number of active tokens in a whole window."""
        name = f"blocks.{layer}"
        qkv = self._linear(norm(x, RESIDUAL[1]), f"{name}.attention.qkv") + self._read(f"{name}.attention.qkv.bias")
        context = self._attention(rounded(qkv, FRACTION).clip(*ACTIVATION), where, tokens, layer)
        attended = self._linear(norm(context, CONTEXT_LIMIT), f"{name}.attention.out")
        x = rounded((x << FRACTION) + attended, FRACTION).clip(*RESIDUAL)
        hidden = self._linear(norm(x, RESIDUAL[1]), f"{name}.up") + self._read(f"{name}.up.bias")
        added = self._linear(rounded(hidden, FRACTION).clip(*POSITIVE), f"{name}.down")
        return rounded((x << FRACTION) + added, FRACTION).clip(*RESIDUAL)

    def _attention(self, qkv: Ints, where: Ints, tokens: int, layer: int) -> Ints:
        """Let every window of tokens attend to itself; in odd layers, windows lie half a window further up and left."""
        window, heads, width = self.config["window"], self.config["heads"], self.config["width"]
        query, key, value = qkv.reshape(len(qkv), 3, heads, width // heads).transpose(1, 2, 0, 3)
        shift = self.schedule.tile * (window // self.schedule.tile // 2) * (layer % 2)
        corner = (where + window - shift) // window
        result = np.empty((len(qkv), width), np.int64)
        for each in np.unique(corner, axis=0):
            members = np.flatnonzero((corner == each).all(axis=1))
            bias = self._bias(where[members], layer)
            context = self._attend(query[:, members], key[:, members], value[:, members], bias, tokens)
            result[members] = context.transpose(1, 0, 2).reshape(len(members), width)
        return result

    def _bias(self, where: Ints, layer: int) -> Ints:
        """Return the score biases (heads, n, n) of n positions, by their distances down and right."""
        window = self.config["window"]
        distance = where[:, None] - where[None, :] + window - 1
        return self._read(f"blocks.{layer}.attention.scores")[:, distance[..., 0] * (2 * window - 1) + distance[..., 1]]

    @cached_property
    def _score_bits(self) -> int:
        """The bits to round off a score: two activations times 1/sqrt(width of a head), in steps of 2^-4."""
        each = self.config["width"] // self.config["heads"]
        return 2 * 5 - 4 + round(0.5 * (each.bit_length() - 1))

    def _attend(self, query: Ints, key: Ints, value: Ints, bias: Ints, tokens: int) -> Ints:
        """Return the context of query, key and value (heads, n, width of a head), of the same shape.

        The weighted sum is divided by the least power of two that is not below ``tokens``.
        """
        scores = np.einsum("hqw,hkw->hqk", query, key) + (bias >> (FRACTION - self._score_bits))
        weights = rounded(scores, self._score_bits).clip(*POSITIVE)
        return rounded(np.einsum("hqk,hkw->hqw", weights, value), (tokens - 1).bit_length())
