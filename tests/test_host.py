"""The benchmark of the host's part: both versions decode the same image, and their figures are apart."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from uigc.bench import host, peer
from uigc.bench.peer import Peer


def test_two_interpreters_side_by_side(
    tiny_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    given: list[tuple[str, str, list[str]]] = []

    def told(python: str, image: NDArray[np.uint8], mask: str, *bundle: str) -> Peer:
        given.append((python, mask, list(bundle)))
        return peer.host(sys.executable, image, mask, str(tiny_path))

    monkeypatch.setattr(host, "host", told)
    out = tmp_path / "host.json"
    options = ["--size", "64x48", "--repeats", "2", "--warm-up", "1", "--json", str(out)]
    host.main(["--bundle", str(tiny_path), "--before", "another", *options])
    assert given == [(sys.executable, "edge", [str(tiny_path)]), ("another", "edge", [])]
    found = json.loads(out.read_text())
    assert (found["width"], found["height"], found["repeats"]) == (64, 48, 2)
    assert list(found["decode"]) == ["now", "before"]
    for figures in found["decode"].values():
        assert 0 < figures["host_p50_ms"] <= figures["host_p95_ms"]
        assert 0 < figures["replayed_p50_ms"] <= figures["replayed_p95_ms"]
        assert figures["graphs_p50_ms"] > 0
        assert figures["bytes"] > 20
    assert [line.split()[0] for line in capfd.readouterr().out.splitlines()] == ["now", "before"]
