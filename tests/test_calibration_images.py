"""What the networks are observed on when they are calibrated."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from uigc.calibration import layers
from uigc.calibration.calibrate import Calibration
from uigc.calibration.network import Network
from uigc.calibration.photographs import single_colours
from uigc.calibration.quality import Judge
from uigc.runtime.bundle import Bundle
from uigc.runtime.progress import silent


def test_the_decoder_is_observed_on_single_colours_too(tiny_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Photographs have hardly any, and ranges that were observed on them alone clip what is computed for one."""
    monkeypatch.setattr(layers, "THIN", 1)  # all convolutions of the tiny networks are thin
    seen: dict[str, list[np.ndarray]] = {}

    def note(self: Network, inputs: list[np.ndarray], step: object) -> dict[str, object]:
        seen[self.name] = list(inputs)
        return {}

    monkeypatch.setattr(Network, "observe", note)
    calibration = Calibration(Bundle.load(tiny_path), 1, silent)
    image = np.full((1, 64, 48, 3), 99, np.uint8)
    for network in (calibration.encoder, calibration.decoder):
        calibration.search(network, [image], [image], Judge([image], None))
    assert len(seen["encoder"]) == 1
    colours = single_colours(64)
    assert {tuple(each[0, 0, 0]) for each in colours} == set(itertools.product((0, 255), repeat=3))
    wanted = [calibration.encoder.full(each) for each in (image, *colours)]
    assert all(np.array_equal(*pair) for pair in zip(seen["decoder"], wanted, strict=True))
