"""The bundle that ships, on the 24 Kodak pictures: right sizes, equal grids, small files, bits saved.

Every picture is coded in each mask mode; the settings under which it is decoded rotate, so that each mode meets each
setting on six pictures. ``UIGC_TEST_EVERYTHING=1`` tries all settings on all of them (about 20 minutes).
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from uigc.bench.metrics import order0
from uigc.runtime import Bundle, Codec, image
from uigc.runtime.mask import MODES

SETTINGS = [(threads, optimize) for threads in (1, 2) for optimize in (True, False)]
EVERYTHING = os.environ.get("UIGC_TEST_EVERYTHING") == "1"


@pytest.fixture(scope="module")
def codecs() -> dict[tuple[int, bool], Codec]:
    bundle = Bundle.load()
    return {setting: Codec(bundle, threads=setting[0], optimize=setting[1]) for setting in SETTINGS}


@pytest.fixture(scope="module")
def tokens(kodak: list[Path], codecs: dict[tuple[int, bool], Codec]) -> list[np.ndarray]:
    return [codecs[2, True].tokenize(image.read(path.read_bytes())) for path in kodak]


@pytest.mark.parametrize("mode", MODES)
def test_grids_are_equal_everywhere(kodak: list[Path], codecs: dict, tokens: list[np.ndarray], mode: str) -> None:
    encoder = codecs[2, True]
    for index, (path, grid) in enumerate(zip(kodak, tokens, strict=True)):
        pixels = image.read(path.read_bytes())
        encoded = encoder.encode_tokens(grid, pixels, MODES[mode])
        assert 0.005 < 8 * len(encoded.data) / (pixels.shape[0] * pixels.shape[1]) < 0.04
        assert np.array_equal(encoded.grid[encoded.sent], grid[encoded.sent])
        rotation = (index + list(MODES).index(mode)) % len(SETTINGS)
        for setting in SETTINGS if EVERYTHING else [SETTINGS[rotation]]:
            assert np.array_equal(codecs[setting].decode_tokens(encoded.data), encoded.grid), (path.name, setting)
            if EVERYTHING:
                assert codecs[setting].encode_tokens(grid, pixels, MODES[mode]).data == encoded.data


def test_pictures_come_back_recognizable(kodak: list[Path], codecs: dict) -> None:
    """Whole pictures through the public calls, landscape and portrait."""
    codec, errors = codecs[2, True], []
    for path in kodak[::4]:
        pixels = image.read(path.read_bytes())
        back = codec.decompress(codec.compress(pixels))
        assert back.shape == pixels.shape
        errors.append(float(((pixels.astype(float) - back) ** 2).mean()))
        flat = float(((pixels.astype(float) - pixels.mean((0, 1))) ** 2).mean())
        assert errors[-1] < flat / 2, path.name
    assert -10 * np.log10(np.mean(errors) / 255**2) > 18


def test_the_prior_saves_a_tenth_of_the_order_0_entropy(codecs: dict, tokens: list[np.ndarray]) -> None:
    total = np.zeros(2)
    for grid in tokens:
        total += np.sum(codecs[2, True].prior.cost(grid, np.ones(grid.shape, bool)), axis=0)
    assert total[1] / total[0] < 0.9 * order0(np.concatenate([grid.ravel() for grid in tokens]))
