"""Which layers of a pixel network are light, and stay in half precision."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from uigc.calibration import layers


@pytest.mark.parametrize(
    ("shape", "paints", "light"),
    [
        ((96, 48, 3, 3), False, False),
        ((96, 64, 3, 3), True, False),
        ((256, 192, 4, 4), True, False),
        ((32, 32, 3, 3), True, True),  # few channels
        ((32, 32, 3, 3), False, True),
        ((768, 384, 1, 1), True, True),  # pointwise
        ((768, 384, 1, 1), False, False),
        ((384, 12, 3, 3), True, True),  # from codewords
        ((12, 384, 3, 3), False, False),
        ((3, 128, 3, 3), True, True),  # to pixels
        ((48, 96, 3, 3), True, True),  # to pixels that are then shuffled
    ],
)
def test_light_layers_stay_in_half_precision(shape: tuple[int, ...], paints: bool, light: bool) -> None:
    assert layers.light(shape, paints) is light


def test_they_are_told_from_the_others(tiny_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full, half = (onnx.load(tiny_path / f"encoder.{precision}.onnx") for precision in ("fp32", "fp16"))
    monkeypatch.setattr(layers, "light", lambda shape, paints: False)
    every = [layer.weight for layer in layers.layers(full, half, False)[0]]
    # The convolutions from 8 channels to 8.
    monkeypatch.setattr(layers, "light", lambda shape, paints: max(shape[:2]) < 16)
    kept, light = ([layer.weight for layer in some] for some in layers.layers(full, half, False))
    assert [name for name in every if name not in kept] == light == [
        "tokenizer.encoder.layers.2.first.weight", "tokenizer.encoder.layers.2.second.weight",
        "tokenizer.encoder.layers.3.weight", "tokenizer.encoder.layers.4.first.weight",
        "tokenizer.encoder.layers.4.second.weight",
    ]  # fmt: skip
