"""Quality against bytes received, on one small picture and with made-up networks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.support.feature_networks import made_up_networks
from uigc.bench.evaluate import to_tensor
from uigc.bench.metrics import psnr
from uigc.bench.progressive import curve, measure, plot
from uigc.runtime.codec import Codec
from uigc.runtime.io import image, image_outputs
from uigc.runtime.progressive import decompress_partial


def test_figures_are_those_of_cut_files(tiny: Codec, sample: np.ndarray, tmp_path: Path) -> None:
    pixels = np.ascontiguousarray(sample[100:228, 200:392])
    (tmp_path / "a.png").write_bytes(image_outputs.encode(pixels, ".png"))
    entries = measure(tiny, [tmp_path / "a.png"], made_up_networks(tmp_path), ("edge",), 6)
    data = tiny.compress(pixels, "edge")
    assert entries[-1]["bytes"] == entries[-1]["of_bytes"] == len(data)
    assert entries[-1]["tokens"] == entries[-1]["of_tokens"]
    assert 2 <= len(entries) <= 6  # the first cuts are in the header or the mask
    assert [entry["bytes"] for entry in entries] == sorted({entry["bytes"] for entry in entries})
    for entry in entries:
        found = decompress_partial(data[: entry["bytes"]], tiny)
        assert entry["tokens"] == found.received.sum()
        assert entry["psnr"] == pytest.approx(float(psnr(to_tensor(found.image), to_tensor(pixels))), abs=1e-4)
    means = curve(entries, "edge", 6)
    assert [mean["bytes"] for mean in means] == [entry["bytes"] for entry in entries]
    assert curve(entries, "entire", 6) == []


def test_a_line_is_drawn_for_each_mask(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    means = [{"bytes": size, "lpips_alex": 0.5 - size / 4000, "dists": 0.3 - size / 8000} for size in (300.0, 900.0)]
    drawn = []
    for curves in (
        {"edge": means},
        {"edge": means, "entire": [{**mean, "lpips_alex": 0.1, "dists": 0.1} for mean in means]},
    ):
        plot(curves, tmp_path / "curves.png")
        drawn.append(image.read((tmp_path / "curves.png").read_bytes()))
    assert drawn[0].shape == drawn[1].shape
    for half in (slice(None, 495), slice(495, None)):  # the plots of LPIPS and of DISTS
        one, two = (int((np.ptp(pixels[:, half], axis=2) > 60).sum()) for pixels in drawn)
        assert two > 1.2 * one > 0
