"""What calibration decides: ranges of tensors, layers within a budget, images to observe and to measure."""

from __future__ import annotations

import tarfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from uigc.calibration import photographs
from uigc.calibration.quality import Budget, Quality
from uigc.calibration.ranges import LEVELS, METHODS, Observed
from uigc.calibration.search import Search
from uigc.runtime.errors import BudgetError, InputError
from uigc.runtime.io.image_sources import is_held_out


def searched(costs: dict[str, float], loss: float) -> list[str]:
    """The layers that a search leaves, with layers whose costs in dB add up."""
    network = SimpleNamespace(
        name="decoder",
        layers=[SimpleNamespace(name=name, weight_scales=np.ones(1, np.float32)) for name in costs],
        full=lambda value: value,
        quantized=dict,
    )
    observed = Observed()
    observed.add(np.ones(4, np.float32))
    judge = SimpleNamespace(
        fix=lambda images: Quality(20.0, None),
        judge=lambda scales: Quality(20 - sum(costs[name] for name in scales), None, 40.0),
    )
    found = Search(
        network,  # type: ignore[arg-type]
        dict.fromkeys(costs, (observed, observed)),
        lambda call: call,  # type: ignore[arg-type, return-value]
        judge,  # type: ignore[arg-type]
        lambda *_: None,
    ).run(Budget(loss, None))
    assert set(found.scales) == set(costs) - set(found.left)
    assert found.quality.psnr >= 20 - loss
    return found.left


def test_the_costliest_layers_are_left_and_no_more() -> None:
    costs = {"a": 0.01, "b": 0.5, "c": 0.1, "d": 0.15, "e": -0.02}
    assert searched(costs, 1.0) == []
    assert searched(costs, 0.3) == ["b"]
    assert searched(costs, 0.2) == ["b", "d"]
    with pytest.raises(BudgetError, match="at a loss of at most 1e-09 dB"):
        searched({"a": 0.01, "b": 0.5}, 1e-9)


def test_both_figures_count_in_a_budget() -> None:
    exact = Quality(20.0, 0.3)
    assert Budget(0.3, 0.005).share(exact, Quality(19.85, 0.301)) == pytest.approx(0.5)
    assert Budget(0.3, 0.005).share(exact, Quality(19.97, 0.31)) == pytest.approx(2)
    assert Budget(0.3, None).share(exact, Quality(19.4, None)) == pytest.approx(2)


def test_ranges_are_those_of_all_values() -> None:
    rng = np.random.default_rng(5)
    parts = [rng.normal(0, scale, 50_000).astype(np.float32) for scale in (0.01, 1, 0.3)]
    parts[2][7] = -40  # one outlier
    observed = Observed()
    for part in parts:
        observed.add(part.reshape(10, -1))
    values = np.concatenate(parts)
    assert observed.counts.sum() == len(values)
    assert (observed.least, observed.most) == (values.min(), values.max())
    ranges = observed.ranges()
    assert ranges["min-max"] == 40
    assert ranges["percentile"] == pytest.approx(np.percentile(np.abs(values), 99.99), abs=64 / 4096)

    def error(reach: float) -> float:
        scale = reach / LEVELS
        return float(np.mean((values - np.clip(np.rint(values / scale), -LEVELS, LEVELS) * scale) ** 2))

    tried = [error(reach) for reach in np.geomspace(2, 40, 200)]
    assert error(ranges["mse"]) < 1.05 * min(tried) < error(40)


def test_a_tensor_of_zeros_has_a_range() -> None:
    observed = Observed()
    observed.add(np.zeros((2, 3), np.float32))
    assert observed.ranges() == dict.fromkeys(METHODS, 1.0)


def test_images_are_measured_or_observed_never_both(tmp_path: Path) -> None:
    held_out = [name for name in (f"{number}.png" for number in range(400)) if is_held_out(name)]
    others = [f"{number}.png" for number in range(12) if not is_held_out(f"{number}.png")]
    for number, name in enumerate([*held_out[:2], *others]):
        Image.new("RGB", (80, 100), (number, 2, 3)).save(tmp_path / name)
    Image.new("RGB", (30, 100)).save(tmp_path / "small.png")
    (tmp_path / "broken.png").write_bytes(b"no image")
    said: list[str] = []
    observed, measured = photographs.choose(tmp_path, 30, 3, said.append)
    assert {photograph.name for photograph in measured} > set(held_out[:2])
    assert not {each.sha256 for each in observed} & {each.sha256 for each in measured}
    assert len(observed) + len(measured) == 2 + len(others)
    assert len(said) == 2
    assert observed[0].pixels.shape == (1, 96, 80, 3)
    tar = tmp_path / "all.tar"
    with tarfile.open(tar, "w") as archive:
        for path in tmp_path.glob("*.png"):
            archive.add(path, path.name)
    again = photographs.choose(tar, 30, 3, said.append)
    assert [[each.sha256 for each in side] for side in again] == [
        [each.sha256 for each in side] for side in (observed, measured)
    ]


def test_one_image_is_too_few(tmp_path: Path) -> None:
    Image.new("RGB", (80, 100)).save(tmp_path / "one.png")
    with pytest.raises(InputError, match="calibration needs two"):
        photographs.choose(tmp_path, 2, 1, print)
