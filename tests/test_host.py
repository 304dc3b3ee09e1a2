"""The benchmark of the host's part: both versions decode the same file, and their figures are apart."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from uigc.bench import host


def test_two_interpreters_side_by_side(
    tiny_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    given: list[tuple[str, list[str]]] = []

    class Told(host.Worker):
        def __init__(self, python: str, file: Path, bundle: list[str]) -> None:
            given.append((python, bundle))
            super().__init__(sys.executable, file, [str(tiny_path)])

    monkeypatch.setattr(host, "Worker", Told)
    out = tmp_path / "host.json"
    options = ["--size", "64x48", "--repeats", "2", "--warm-up", "1", "--json", str(out)]
    host.main(["--bundle", str(tiny_path), "--before", "another", *options])
    assert given == [(sys.executable, [str(tiny_path)]), ("another", [])]
    found = json.loads(out.read_text())
    assert (found["width"], found["height"], found["repeats"]) == (64, 48, 2)
    assert list(found["decode"]) == ["now", "before"]
    for figures in found["decode"].values():
        assert 0 < figures["host_p50_ms"] <= figures["host_p95_ms"]
        assert figures["graphs_p50_ms"] > 0
    assert [line.split()[0] for line in capfd.readouterr().out.splitlines()] == ["now", "before"]
