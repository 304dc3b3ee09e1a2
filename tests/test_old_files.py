"""Files stay valid while pixel decoders improve: one that was trained further paints them better."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tests.support.recipes import smooth_images, train
from uigc.export.bundle import write_bundle
from uigc.export.modules.checkpoint import load_prior, load_tokenizer, save_tokenizer
from uigc.runtime.bundle import Bundle
from uigc.runtime.codec import Codec

Pixels = NDArray[np.uint8]


def error(image: Pixels, reference: Pixels) -> float:
    return float(np.abs(image.astype(float) - reference).mean())


@pytest.fixture(scope="module")
def image() -> Pixels:
    """Of the kind that the recipes learn from, but none of those."""
    small = np.random.default_rng(1).integers(0, 256, (6, 9, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize((288, 192), Image.Resampling.BICUBIC))


@pytest.fixture(scope="module")
def newer(tiny_path: Path, tmp_path_factory: pytest.TempPathFactory, image: Pixels) -> Codec:
    """A codec of the tiny bundle's modules, whose decoder was trained."""
    photos, run = smooth_images(tmp_path_factory.mktemp("photos")), tmp_path_factory.mktemp("run")
    tokenizer = load_tokenizer(tiny_path)
    save_tokenizer(run, tokenizer.state_dict(), tokenizer.config)
    train("decoder", photos, run, 250, "--crop", "64", "--batch", "8")
    write_bundle(load_tokenizer(run), load_prior(tiny_path), run / "bundle", [image], False, lambda line: None)
    return Codec(Bundle.load(run / "bundle"))


def test_a_decoder_trained_further_paints_old_files_better(tiny: Codec, newer: Codec, image: Pixels) -> None:
    for mask in ("entire", "edge"):
        data = tiny.compress(image, mask)
        assert np.array_equal(newer.decode_tokens(data), tiny.decode_tokens(data))
        assert error(newer.decompress(data), image) < 0.98 * error(tiny.decompress(data), image)


def test_both_write_the_same_files(tiny: Codec, newer: Codec, image: Pixels) -> None:
    assert newer.bundle.prior_id == tiny.bundle.prior_id
    assert newer.compress(image) == tiny.compress(image)
