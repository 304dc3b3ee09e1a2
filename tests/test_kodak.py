"""The bundle that ships, on the 24 Kodak pictures: right sizes, equal grids, small files, bits saved."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from uigc.bench.metrics import order0
from uigc.runtime import Bundle, Codec, image
from uigc.runtime.mask import MODES

SETTINGS = [(threads, optimize) for threads in (1, 2) for optimize in (True, False)]


@pytest.fixture(scope="module")
def codecs() -> dict[tuple[int, bool], Codec]:
    bundle = Bundle.load()
    return {setting: Codec(bundle, threads=setting[0], optimize=setting[1]) for setting in SETTINGS}


@pytest.fixture(scope="module")
def tokens(kodak: list[Path], codecs: dict[tuple[int, bool], Codec]) -> list[np.ndarray]:
    return [codecs[2, True].tokenize(image.read(path.read_bytes())) for path in kodak]


@pytest.mark.parametrize("mode", MODES)
def test_grids_are_equal_everywhere(kodak: list[Path], codecs: dict, tokens: list[np.ndarray], mode: str) -> None:
    """Every picture under every setting; each is also encoded under one of the others, to the same bytes."""
    for index, (path, grid) in enumerate(zip(kodak, tokens, strict=True)):
        pixels = image.read(path.read_bytes())
        encoded = codecs[2, True].encode_tokens(grid, pixels, MODES[mode])
        assert 0.005 < 8 * len(encoded.data) / (pixels.shape[0] * pixels.shape[1]) < 0.04
        assert np.array_equal(encoded.grid[encoded.sent], grid[encoded.sent])
        for setting in SETTINGS:
            assert np.array_equal(codecs[setting].decode_tokens(encoded.data), encoded.grid), (path.name, setting)
        other = codecs[SETTINGS[index % len(SETTINGS)]]
        assert other.encode_tokens(grid, pixels, MODES[mode]).data == encoded.data


def thumbnail(pixels: np.ndarray) -> np.ndarray:
    """A small grey picture (1024,) of mean 0 and length 1, by which pictures are told apart."""
    small = Image.fromarray(pixels).convert("L").resize((32, 32), Image.Resampling.BOX)
    values = np.asarray(small, dtype=float).ravel() - np.mean(small)
    return np.asarray(values / np.linalg.norm(values))


def test_pictures_come_back_recognizable(kodak: list[Path], codecs: dict) -> None:
    """Through the public calls, landscape and portrait: the right size, and nearest to the picture it was."""
    codec, before, after = codecs[2, True], [], []
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
        total += np.sum(codecs[2, True].prior.cost(grid, np.ones(grid.shape, bool)), axis=0)
    assert total[1] / total[0] < 0.9 * order0(np.concatenate([grid.ravel() for grid in tokens]))
