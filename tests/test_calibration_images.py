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


def test_single_colours_are_not_clipped_in_the_decoder(tiny_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Photographs have hardly any, and ranges that were chosen by them alone clip what is computed for one."""
    monkeypatch.setattr(layers, "light", lambda shape, paints: False)  # as all convolutions of the tiny networks are
    seen: dict[str, tuple[list[np.ndarray], list[np.ndarray]]] = {}

    def note(self: Network, inputs: list[np.ndarray], covered: list[np.ndarray], step: object) -> dict[str, object]:
        seen[self.name] = inputs, covered
        return {}

    monkeypatch.setattr(Network, "observe", note)
    calibration = Calibration(Bundle.load(tiny_path), 1, silent)
    image = np.full((1, 64, 48, 3), 99, np.uint8)
    for network in (calibration.encoder, calibration.decoder):
        calibration.search(network, [image], [image], Judge([image], None))
    assert [len(some) for some in seen["encoder"]] == [1, 0]
    colours = single_colours(64)
    assert {tuple(each[0, 0, 0]) for each in colours} == set(itertools.product((0, 255), repeat=3))
    wanted = [calibration.encoder.full(each) for each in (image, *colours)]
    inputs, covered = seen["decoder"]
    assert len(inputs) == 1
    assert all(np.array_equal(*pair) for pair in zip([*inputs, *covered], wanted, strict=True))


def test_ranges_cover_what_is_to_be_covered(tiny_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By every method, and what was observed counts as without it."""
    monkeypatch.setattr(layers, "light", lambda shape, paints: False)
    network = Network(Bundle.load(tiny_path), "encoder", 1)
    dark, bright = (np.full((1, 32, 32, 3), level, np.uint8) for level in (120, 255))
    alone = network.observe([dark], [], lambda: None)
    covered = network.observe([dark], [bright], lambda: None)
    seen = network.observe([bright], [], lambda: None)
    wider = 0
    for name in alone:
        for one, other, largest in zip(alone[name], covered[name], seen[name], strict=True):
            assert np.array_equal(one.counts, other.counts)
            expected = {method: max(reach, largest.largest) for method, reach in one.ranges().items()}
            assert other.ranges() == expected
            wider += expected != one.ranges()
    assert wider
