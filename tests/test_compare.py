"""`uigc evaluate --compare`: BD-rate against values known in closed form, and wins counted by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from uigc.bench.compare import bd_rate, compare, said
from uigc.bench.figures import QUALITY, Point, read_all
from uigc.runtime.cli.main import main

LPIPS, DISTS, LPIPS_VGG, MS_SSIM, PSNR = QUALITY
RATES = (0.01, 0.013, 0.02, 0.05)


def curve(factor: float, values: tuple[float, ...]) -> list[Point]:
    return [Point(f"{rate}", rate * factor, value) for rate, value in zip(RATES, values, strict=True)]


@pytest.mark.parametrize(("figure", "values"), [(PSNR, (20, 22, 23, 27)), (LPIPS, (0.5, 0.45, 0.3, 0.2))])
def test_equal_quality_at_a_fixed_factor_of_the_rate(figure: Any, values: tuple[float, ...]) -> None:
    """Four fifths of the bits are 20 % less, whether higher or lower values are better; and back 25 % more."""
    saved = bd_rate(curve(0.8, values), curve(1, values), figure)
    lost = bd_rate(curve(1, values), curve(0.8, values), figure)
    assert saved is not None
    assert lost is not None
    assert (saved.percent, lost.percent) == (pytest.approx(-20), pytest.approx(25))
    assert (saved.low, saved.high) == (min(values), max(values))
    assert said(saved, figure).startswith("-20.0 % between ")


def test_only_the_shared_range_counts() -> None:
    """Straight lines in the logarithm of the rate, of which one is longer: what it has beyond the other is left out."""
    straight = [Point("", 2.0**step / 100, 20 + step) for step in range(5)]
    shorter = [Point("", 2.0**step / 200, 20 + step) for step in range(1, 3)]
    found = bd_rate(shorter, straight, PSNR)
    assert found is not None
    assert (found.percent, found.low, found.high) == (pytest.approx(-50), 21, 22)


def test_no_overlap_is_said_and_nothing_is_extrapolated() -> None:
    found = bd_rate(curve(1, (0.5, 0.48, 0.45, 0.4)), curve(1, (0.3, 0.28, 0.25, 0.2)), LPIPS)
    assert found is not None
    assert found.percent is None
    assert said(found, LPIPS) == "no overlap: 0.400 to 0.500 and 0.200 to 0.300"
    assert bd_rate(curve(1, (0.5, 0.4, 0.3, 0.2)), [Point("", 0.01, 0.3)], LPIPS) is None
    assert "two settings" in said(None, LPIPS)


def write(path: Path, codec: str, settings: dict[str, list[tuple[int, float, float | None]]]) -> Path:
    """A file of figures; each setting has bytes, LPIPS and DISTS of every image."""
    entries = []
    for setting, figures in settings.items():
        records = [
            {"picture": f"{number}.png", "bytes": size, "bpp": size / 1000, "lpips_alex": lpips, "dists": dists}
            for number, (size, lpips, dists) in enumerate(figures)
        ]
        means = {name: sum(record[name] or 0 for record in records) / len(records) for name in ("bpp", "lpips_alex")}  # type: ignore[misc]
        entries.append({"codec": codec, "version": "1", "setting": setting, "means": means, "pictures": records})
    path.write_text(json.dumps({"schema": 1, "date": "", "data_set": {"name": "x"}, "entries": entries}))
    return path


@pytest.fixture
def pair(tmp_path: Path) -> list[Path]:
    """Two settings of each; of three images, ours has a file small enough for the first setting of the peer on two."""
    ours = {
        "low": [(10, 0.5, 0.1), (10, 0.3, 0.1), (10, 0.2, 0.1)],
        "high": [(20, 0.2, 0.1), (20, 0.1, 0.1), (20, 0.1, 0.1)],
    }
    peer = {
        "1": [(15, 0.4, 0.3), (10, 0.4, 0.3), (9, 0.4, 0.3)],
        "9": [(30, 0.3, 0.3), (20, 0.1, 0.3), (25, 0.3, None)],
    }
    return [write(tmp_path / "a.json", "uigc", ours), write(tmp_path / "b.json", "avif", peer)]


def test_wins(pair: list[Path]) -> None:
    found = compare(*read_all(pair))
    assert (found.a, found.b, found.pictures) == ("uigc", "AVIF", 3)
    first, second = found.wins
    assert (first.setting, first.small, first.wins["lpips_alex"], first.wins["dists"]) == ("1", 2, 1, 2)
    assert (second.setting, second.small, second.wins["lpips_alex"]) == ("9", 3, 2)  # an equal figure is no win
    assert second.wins["dists"] is None  # one image lacks it
    assert second.wins["psnr"] is None


def test_the_command(pair: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.json"
    assert main(["evaluate", "--compare", *map(str, pair), "--json", str(out)]) == 0
    result = json.loads(out.read_text())
    assert result["bd_rate"]["lpips_alex"]["percent"] < 0
    assert result["bd_rate"]["psnr"] is None
    assert [row["small"] for row in result["wins"]] == [2, 3]
    shown = capsys.readouterr().out
    assert "uigc against AVIF on 3 images" in shown
    assert f"{result['bd_rate']['lpips_alex']['percent']:+.1f} %" in shown
    assert main(["evaluate", "--compare", *map(str, pair), "--json", str(out)]) == 4
    assert main(["evaluate"]) == main(["evaluate", str(tmp_path), "--compare", *map(str, pair)]) == 2
    assert "--compare" in capsys.readouterr().err
