"""The default bundle on the 24 Kodak images: right sizes, equal grids, small files, bits saved."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from uigc.bench.metrics import order0
from uigc.runtime.bundle import Bundle
from uigc.runtime.codec import Codec
from uigc.runtime.format.mask import MODES
from uigc.runtime.io import image

# Precision, threads, optimization: every precision, and what differs most of the rest.
SETTINGS = [("fp32", 2, "all"), ("fp32", 1, "off"), ("fp32", 2, "basic"), ("int8", 1, "all"), ("int8", 2, "off")]
FASTEST = SETTINGS[3]


@pytest.fixture(scope="module")
def codecs() -> dict[tuple[str, int, str], Codec]:
    bundle = Bundle.load()
    return {each: Codec(bundle, precision=each[0], threads=each[1], optimization=each[2]) for each in SETTINGS}


@pytest.fixture(scope="module")
def tokens(kodak: list[Path], codecs: dict[tuple[str, int, str], Codec]) -> list[np.ndarray]:
    return [codecs[FASTEST].tokenize(image.read(path.read_bytes())) for path in kodak]


def test_any_variant_decodes_what_any_other_encoded(kodak: list[Path], codecs: dict, tokens: list[np.ndarray]) -> None:
    """Byte-identical files from every setting, so that decoding one of them in every setting tries every pair."""
    for index, (path, grid) in enumerate(zip(kodak, tokens, strict=True)):
        pixels = image.read(path.read_bytes())
        mode = list(MODES.values())[index % len(MODES)]
        encoded = codecs[FASTEST].encode_tokens(grid, pixels, mode)
        assert 0.005 < 8 * len(encoded.data) / (pixels.shape[0] * pixels.shape[1]) < 0.04
        assert np.array_equal(encoded.grid[encoded.sent], grid[encoded.sent])
        for setting, codec in codecs.items():
            if setting != FASTEST:  # which wrote the file
                assert codec.encode_tokens(grid, pixels, mode).data == encoded.data, (path.name, setting)
            assert np.array_equal(codec.decode_tokens(encoded.data), encoded.grid), (path.name, setting)


def thumbnail(pixels: np.ndarray) -> np.ndarray:
    """A small grey image (1024,) of mean 0 and length 1, by which images are told apart."""
    small = Image.fromarray(pixels).convert("L").resize((32, 32), Image.Resampling.BOX)
    values = np.asarray(small, dtype=float).ravel() - np.mean(small)
    return np.asarray(values / np.linalg.norm(values))


def test_images_come_back_recognizable(kodak: list[Path], codecs: dict) -> None:
    """Through the public calls, landscape and portrait: the right size, and nearest to the image it was."""
    codec, before, after = codecs[FASTEST], [], []
    for path in kodak:
        pixels = image.read(path.read_bytes())
        back = codec.decompress(codec.compress(pixels))
        assert back.shape == pixels.shape
        before.append(thumbnail(pixels))
        after.append(thumbnail(back))
    likeness = np.array(after) @ np.array(before).T
    assert np.array_equal(likeness.argmax(axis=1), np.arange(len(kodak)))
    assert likeness.diagonal().min() > 0.8
    assert likeness.diagonal().mean() > 0.95


def test_the_prior_saves_a_tenth_of_the_order_0_entropy(codecs: dict, tokens: list[np.ndarray]) -> None:
    total = np.zeros(2)
    for grid in tokens:
        total += np.sum(codecs[FASTEST].token_codec.prior.cost(grid, np.ones(grid.shape, bool)), axis=0)
    assert total[1] / total[0] < 0.9 * order0(np.concatenate([grid.ravel() for grid in tokens]))
