"""The figures of flat fields are those of what a codec does to them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from uigc.bench import flat_fields
from uigc.bench.flat_fields import COLOURS, FLAT, SIZES, judge, measure, summary
from uigc.runtime.codec import Codec
from uigc.runtime.providers import ProviderOptions, find

Pixels = NDArray[np.uint8]


class Flawed:
    """Keeps images as they are, but for what ``flaw`` does to them."""

    def __init__(self, bias: int = 0, weave: int = 0, border: int = 0) -> None:
        self.bias, self.weave, self.border = bias, weave, border

    def compress(self, pixels: Pixels, mask: str = "entire") -> bytes:
        assert len(np.unique(pixels.reshape(-1, 3), axis=0)) == 1
        height, width = pixels.shape[:2]
        return bytes([*height.to_bytes(2, "big"), *width.to_bytes(2, "big"), *map(int, pixels[0, 0])])

    def decompress(self, data: bytes) -> Pixels:
        height, width = (int.from_bytes(data[at : at + 2], "big") for at in (0, 2))
        made = np.full((height, width, 3), [*data[4:]], np.int64)
        made += np.where(made < 128, self.bias, -self.bias)
        made[::4, ::4] += np.where(made[::4, ::4] < 128, self.weave, -self.weave)
        made[:32] = np.clip(made[:32] + self.border, 0, 255)
        return made.astype(np.uint8)


def test_a_perfect_codec_is_flat_and_right() -> None:
    fields = measure(Flawed())
    assert len(fields) == len(COLOURS) * len(SIZES)
    expected = {"fields": 27, "flat": 27, "right": 27, "worst_unevenness": 0.0, "worst_difference": 0.0}
    assert summary(fields) == expected
    assert summary(measure(Flawed(border=90)))["flat"] == 27  # is not looked at


def test_flaws_are_told_apart() -> None:
    biased, woven = summary(measure(Flawed(bias=7))), summary(measure(Flawed(weave=8)))
    assert (biased["flat"], biased["right"], biased["worst_difference"]) == (27, 0, 7.0)
    assert (woven["flat"], woven["right"], woven["worst_unevenness"]) == (0, 27, 7.5)
    made = np.full((128, 128, 3), (0, 0, 250), np.uint8)
    made[64, 64, 1] = 3
    field = judge("blue", made)
    assert (field.flat, field.right, field.difference) == (False, True, 5.0)


@pytest.mark.parametrize("colour", ["white", "red"])
def test_what_is_measured_is_the_bare_decoder(tiny: Codec, colour: str) -> None:
    """A codec adds nothing to its networks, whole and in tiles, in a size that is no whole number of tokens."""
    height, width = next(size for size in SIZES if any(side % 16 for side in size))
    padded = np.full((-(-height // 16) * 16, -(-width // 16) * 16, 3), COLOURS[colour], np.uint8)
    options = ProviderOptions(threads=1)
    encoder, decoder = (find("cpu").load(tiny.bundle.graph(name), options) for name in ("encoder", "decoder"))
    tokens = encoder(padded[None])
    bare = decoder(tokens)[0][:height, :width]
    pixels = np.ascontiguousarray(padded[:height, :width])
    in_tiles = Codec(tiny.bundle, threads=1, max_memory=1)
    for codec, rounding in ((tiny, 0), (in_tiles, 1)):
        data = codec.compress(pixels, "entire")
        assert np.array_equal(codec.decode_tokens(data), tokens[0])
        back = codec.decompress(data)
        assert np.abs(back.astype(int) - bare).max() <= rounding
        assert judge(colour, back).difference == pytest.approx(judge(colour, bare).difference, abs=rounding)


def test_the_command_writes_every_figure(tiny_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flat_fields, "SIZES", ((96, 112),))
    flat_fields.main(["--bundle", str(tiny_path), "--json", str(tmp_path / "flat.json")])
    result = json.loads((tmp_path / "flat.json").read_text())
    assert result["mask"] == "entire"
    assert [entry["colour"] for entry in result["entries"]] == [*COLOURS]
    assert result["summary"]["flat"] == sum(entry["flat"] for entry in result["entries"])


def test_the_default_bundle_leaves_them_flat() -> None:
    """With a level to spare, because other processors round its pixels otherwise."""
    codec = Codec(threads=1)
    for name, colour in COLOURS.items():
        field = judge(name, codec.decompress(codec.compress(np.full((128, 144, 3), colour, np.uint8), "entire")))
        assert field.unevenness <= FLAT + 1, field
        assert field.right, field
