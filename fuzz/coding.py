"""Targets that read parts of a payload: edge bits, tokens under logits, and the text of a mask."""

from __future__ import annotations

import functools
import random
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from uigc.fuzz.target import Change, Target, always
from uigc.runtime.exactness.reference import with_sums
from uigc.runtime.format import mask_coding
from uigc.runtime.format.entropy_coder import TokenEntropyModel, weight_table
from uigc.runtime.format.mask import MODES, Mask
from uigc.runtime.format.range_coder import SymbolReader, SymbolWriter
from uigc.runtime.networks.outputs import LARGEST_LOGIT

_MASK_HEAD, _TOKEN_HEAD = 3, 4  # bytes before the payload


@functools.cache
def _mask_tables() -> list[NDArray[np.int32]]:
    """Return tables of probabilities: random ones, and the extremes of what a bundle may hold."""
    rng = np.random.default_rng(0)
    size = 1 << mask_coding.CONTEXT_BITS
    extreme = rng.choice(np.array([1, 65535], dtype=np.int32), size)
    return [rng.integers(1, 65536, size, dtype=np.int32), extreme, np.full(size, 32768, dtype=np.int32)]


def check_mask(data: bytes) -> str:
    """Read edge bits; written again, they come back.

    The first three bytes are rows - 1 (modulo 16), columns - 1 (modulo 32) and the table.
    """
    head, payload = data[:_MASK_HEAD].ljust(_MASK_HEAD, b"\0"), data[_MASK_HEAD:]
    shape, table = (head[0] % 16 + 1, head[1] % 32 + 1), _mask_tables()[head[2] % 3]
    models = mask_coding.MaskModels(table)
    bits = mask_coding.read_bits(SymbolReader(payload), shape, models)
    assert bits.shape == shape
    writer = SymbolWriter()
    mask_coding.write_bits(writer, bits, table)
    again = writer.finish()
    assert np.array_equal(mask_coding.read_bits(SymbolReader(again), shape, models), bits)
    return "decoded"


@dataclass(frozen=True)
class _Coding:
    """A model and the predictions of a few tokens."""

    model: TokenEntropyModel
    predictions: NDArray[np.int32]


@functools.lru_cache(4096)
def _coding(size: int, count: int, seed: int, spread: int, has_sums: bool) -> _Coding:
    codebook = 4 << size % 11  # 4 to 4096
    rng = np.random.default_rng(seed)
    low = -min(LARGEST_LOGIT, 1 << spread % 12)
    logits = rng.integers(low, -low, (count % 8 + 1, codebook), dtype=np.int32, endpoint=True)
    predictions = with_sums(logits, weight_table()) if has_sums else logits
    return _Coding(TokenEntropyModel(weight_table(), codebook), predictions)


def check_tokens(data: bytes) -> str:
    """Read tokens; written again, they come back.

    The first four bytes are the size of the codebook, the number of tokens and whether sums come with their logits, the
    seed and the spread of these.
    """
    head, payload = data[:_TOKEN_HEAD].ljust(_TOKEN_HEAD, b"\0"), data[_TOKEN_HEAD:]
    coding = _coding(head[0] % 11, head[1] % 8, head[2] % 16, head[3] % 12, bool(head[1] & 8))
    tokens = coding.model.decode(SymbolReader(payload), coding.predictions)
    assert tokens.shape == (len(coding.predictions),)
    assert tokens.min() >= 0
    assert tokens.max() < coding.model.codebook
    writer = SymbolWriter()
    coding.model.encode(writer, coding.predictions, tokens)
    again = writer.finish()
    assert np.array_equal(coding.model.decode(SymbolReader(again), coding.predictions), tokens)
    return "decoded"


def check_text(data: bytes) -> str:
    """Parse the text of a mask; its label is parsed as the same mask."""
    mask = Mask.parse(data.decode("utf-8", "replace"))
    assert Mask.parse(mask.label) == mask
    return "read"


def _mutate(head: int, data: bytes, rng: random.Random, change: Change) -> bytes:
    """Alter the payload, or one of the ``head`` bytes before it."""
    data = data.ljust(head, b"\0")
    if rng.random() < 0.3:
        place = rng.randrange(head)
        return data[:place] + rng.randbytes(1) + data[place + 1 :]
    return data[:head] + change(data[head:])


_WORDS = (*MODES, ":", "@", "+", "draw", "loss", "gradient", "0", "1", ".", "255", "256", "1e-5", "0.00001", "٣", "²")


def _mutate_text(data: bytes, rng: random.Random, change: Change) -> bytes:
    """Put the words of a mask together, or alter a text."""
    if rng.random() < 0.2:
        return change(data)
    text, word = data.decode("utf-8", "replace"), rng.choice((*_WORDS, str(round(rng.random(), 7))))
    begin = rng.randrange(len(text) + 1)
    end = rng.choice((begin, rng.randrange(begin, len(text) + 1)))
    return (text[:begin] + word + text[end:]).encode("utf-8", "replace")


def _noise(head: int) -> dict[str, bytes]:
    rng = random.Random(head)
    return {f"noise-{length}": rng.randbytes(head + length) for length in (0, 1, 4, 9, 40, 200)} | {
        "ones": bytes(range(head)) + b"\xff" * 40
    }


def _texts() -> dict[str, bytes]:
    labels = (*MODES, "edge:0.5", "edge_more:0.2@gradient", "edge+draw", "edge_more:1@loss+draw255", "edge:0.00001")
    return {f"label-{number}": label.encode() for number, label in enumerate(labels)}


MASK = Target(
    "mask", check_mask, functools.partial(_mutate, _MASK_HEAD), functools.partial(_noise, _MASK_HEAD), ".bin",
    always("payloads of edge bits"), 0.02,
)  # fmt: skip
TOKENS = Target(
    "tokens", check_tokens, functools.partial(_mutate, _TOKEN_HEAD), functools.partial(_noise, _TOKEN_HEAD),
    ".bin", always("payloads of tokens"), 0.04,
)  # fmt: skip
TEXT = Target("mask_text", check_text, _mutate_text, _texts, ".txt", always("texts of masks"), 0.278)
