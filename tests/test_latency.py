"""Side by side and by size: the benchmarks decode what they say, and their tables say what was measured."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.paths import ROOT
from uigc.bench import latency, latency_table, peer, scaling, throughput
from uigc.bench.interleaved import Times, time_interleaved
from uigc.bench.torch_codec import torch_codec
from uigc.runtime.bundle import Bundle
from uigc.runtime.codec import Codec
from uigc.runtime.errors import DependencyError

RESULT = ROOT / "bench" / "results" / "latency.json"
SCALING = ROOT / "bench" / "results" / "scaling.json"


def test_turns() -> None:
    calls: list[str] = []
    contenders = {name: (lambda name=name: calls.append(name)) for name in "ab"}
    contenders["c"] = lambda: 0.25  # type: ignore[assignment, return-value]
    taken = time_interleaved(contenders, 4, warm_up=2, every={"b": 3})
    assert "".join(calls) == "a" + "ab" + "ab" + "a" + "a" + "ab"
    assert [len(taken[name].milliseconds) for name in "abc"] == [4, 2, 4]
    assert taken["c"].median == taken["c"].p95 == 250
    assert Times((1.0, 2.0, 9.0)).median == 2


def test_pytorch_decodes_the_same_tokens(tiny: Codec, tiny_path: Path) -> None:
    image = np.random.default_rng(5).integers(0, 256, (70, 90, 3), dtype=np.uint8)
    other = torch_codec(Bundle.load(tiny_path))
    data = tiny.compress(image)
    assert other.compress(image) == data
    assert np.array_equal(other.decode_tokens(data), tiny.decode_tokens(data))
    assert np.abs(other.decompress(data).astype(int) - tiny.decompress(data)).max() <= 1


def test_a_run(tiny_path: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- latency -->\nold\n<!-- /latency -->\nafter\n")
    options = ["--bundle", str(tiny_path), "--threads", "1", "--repeats", "2", "--no-compile", "--batch", "1", "2"]
    latency.main([*options, "--size", "40x30", "--json", str(tmp_path / "l.json"), "--readme", str(page)])
    result = json.loads((tmp_path / "l.json").read_text())
    (size,) = result["sizes"]
    rows = [(row["runtime"], row["provider"], row["precision"], row["batch"]) for row in size["rows"]]
    singly = [("uigc", "cpu", "int8", 1), ("uigc", "cpu", "fp32", 1), ("torch eager", "cpu", "fp32", 1)]
    assert [row for row in rows if row[1] == "cpu"] == [*singly, *[(*row[:3], 2) for row in singly]]
    assert size["rows"][0]["ratio"] == 1
    assert all(row["p95_ms"] >= row["p50_ms"] > 0 for row in size["rows"])
    assert "--compressai" in result["absent"]["compressai"]
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("\nafter\n")
    assert latency_table.block(text) == latency_table.table(result)
    assert "| 40x30 | 2 | PyTorch eager | cpu |" in text
    with pytest.raises(SystemExit, match="write them"):
        latency_table.fill(tmp_path / "l.json", result)


def test_the_page_says_what_was_measured() -> None:
    """The table in the README is that of the committed figures; without figures there is no table."""
    block = latency_table.block((ROOT / "README.md").read_text(encoding="utf-8"))
    assert block == (latency_table.table(json.loads(RESULT.read_text(encoding="utf-8"))) if RESULT.exists() else "")
    assert (ROOT / "docs" / "scaling.png").exists() == SCALING.exists()


def test_a_peer_in_another_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The protocol, with a worker that answers as CompressAI's does."""
    worker = tmp_path / "worker.py"
    worker.write_text(
        "import json, sys\n"
        "print(json.dumps({'size': len(open(sys.argv[1], 'rb').read()), 'rest': sys.argv[2:]}), flush=True)\n"
        "for line in sys.stdin: print(len(line.strip()) / 4, flush=True)\n"
    )
    image = np.zeros((4, 5, 3), np.uint8)
    monkeypatch.setattr(peer.compressai_worker, "__file__", str(worker))
    other = peer.compressai(sys.executable, image, 2)
    assert other.facts == {"size": 60, "rest": ["4", "5", "2", *peer.MODELS]}
    assert other.decoding("mbt2018")() == 1.75
    other.close()
    worker.write_text("raise SystemExit(1)")
    with pytest.raises(DependencyError, match="install it there"):
        peer.compressai(sys.executable, image, 2)
    with pytest.raises(DependencyError, match="cannot be run"):
        peer.compressai(str(tmp_path / "none"), image, 2)


def test_another_version_decodes_in_turns_with_this_one(tiny_path: Path, tmp_path: Path) -> None:
    options = ["--bundle", str(tiny_path), "--threads", "1", "--repeats", "2", "--no-compile", "--size", "40x30"]
    latency.main([*options, "--before", sys.executable, "--json", str(tmp_path / "l.json")])
    result = json.loads((tmp_path / "l.json").read_text())
    assert result["before"]["prior"] == Bundle.load().prior_id.hex()  # that interpreter's own bundle
    (row,) = [row for row in result["sizes"][0]["rows"] if row["runtime"] == "uigc before"]
    assert row["repeats"] == 2
    assert row["ratio"] > 0
    assert "uigc as it was before" in latency_table.table(result)


def test_scaling(tiny: Codec, tiny_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert tiny.decompress(scaling.made(tiny, 1000, 50, "edge")).shape == (50, 1000, 3)
    options = ["--bundle", str(tiny_path), "--precision", "fp32", "--repeats", "3", "--threads", "1"]
    scaling.main([*options, "--size", "64x32", "500x300", "--json", str(tmp_path / "s.json")])
    result = json.loads((tmp_path / "s.json").read_text())
    small, large = result["points"]
    assert (small["width"], large["height"], result["precision"]) == (64, 300, "fp32")
    assert large["peak_bytes"] > small["peak_bytes"] >= small["idle_bytes"] > 10e6
    assert "slope" in capsys.readouterr().out


def test_slopes() -> None:
    def points(power: float) -> list[dict[str, Any]]:
        return [{"width": side, "height": side, "p50_ms": side ** (2 * power)} for side in (100, 400, 1600)]

    assert scaling.fit(points(1.1))["slope"] == pytest.approx(1.1)
    assert [scaling.fit(points(power))["linear"] for power in (0.8, 0.9, 1.0, 1.1, 1.2)] == [0, 1, 1, 1, 0]


def test_the_plot(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    point = {"p50_ms": 5.0, "peak_bytes": 1 << 27}
    points = [{"width": side, "height": side, **point} for side in (100, 200, 300)]
    scaling.plot({"points": points, "slope": 0.0, "processor": "any", "date": "today"}, tmp_path / "p.png")
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")


def test_ways_through_many_files(tiny: Codec, tiny_path: Path) -> None:
    asked = throughput.ways(2, [1, 3])
    assert [(way.jobs, way.threads) for way in asked] == [(1, 2), (2, 2), (2, 1)] * 2
    data = tiny.compress(np.zeros((40, 40, 3), np.uint8))
    rows = throughput.measure(Bundle.load(tiny_path), "cpu", asked, data, 4, 1)
    assert [(row["jobs"], row["batch"]) for row in rows] == [(1, 1), (2, 1), (2, 1), (1, 3), (2, 3), (2, 3)]
    assert rows[0]["speedup"] == 1
    assert all(row["pictures_per_second"] > 0 for row in rows)
