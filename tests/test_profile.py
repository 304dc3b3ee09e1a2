"""`uigc profile`: its figures add up, its trace opens, a device's profiler hears of the spans."""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import Run
from uigc.bench import profile
from uigc.bench.profile import Round, figures, step_table, trace_events
from uigc.runtime.codec import Codec
from uigc.runtime.errors import ExitCode
from uigc.runtime.spans import Span


def test_figures_of_known_spans() -> None:
    """Two rounds of 10 and 20 ms: a step twice in a round is added up, and the rest is what lies in no step."""

    def spans(unit: int) -> list[Span]:
        inner = Span("network", 1, 7, 1, 0, 4 * unit, bytes=100)
        return [inner, Span("network", 1, 7, 1, 0, unit, bytes=20), Span("stage", 1, 7, 0, 0, 8 * unit, 5 * unit)]

    rounds = [Round(0, 10_000_000, spans(1_000_000)), Round(0, 20_000_000, spans(2_000_000))]
    found = figures(rounds, tokens=150, pixels=30_000)
    assert found["total"] == {"p50_ms": 15.0, "p95_ms": 19.5, "share": 1.0}
    assert found["steps"] == [
        {"step": "network", "stage": 1, "p50_ms": 7.5, "p95_ms": 9.75, "share": 0.5, "bytes": 120}
    ]
    assert found["by_step"]["network"]["p50_ms"] == 7.5
    assert found["rest"]["share"] == found["host"]["share"] == 0.5
    assert (found["tokens_per_second"], found["megapixels_per_second"]) == (10_000.0, 2.0)
    (name, *events) = trace_events({"decode": rounds})["traceEvents"]
    assert name == {"name": "process_name", "ph": "M", "pid": 0, "tid": 0, "args": {"name": "decode"}}
    assert events[0] == {"name": "decode", "ph": "X", "pid": 0, "tid": 0, "ts": 0, "dur": 10_000, "args": {"round": 0}}
    assert events[1]["name"] == "network 1"
    assert events[1]["args"] == {"stage": 1, "bytes": 100}


def test_what_a_device_says_of_itself_stands_beside_the_hosts_times() -> None:
    spans = [Span("engine", stage, 7, 1, 0, 4_000_000, device=stage * 1_000_000) for stage in (1, 2)]
    found = figures([Round(0, 10_000_000, [*spans, Span("mask", None, 7, 0, 0, 5)])] * 3, tokens=1, pixels=1)
    assert [step.get("device_p50_ms") for step in found["steps"]] == [1.0, 2.0, None]
    assert found["by_step"]["engine"]["device_p50_ms"] == 3.0
    shown = {"width": 1, "height": 1, "batch": 1, "provider": "p", "precision": "fp32", "repeats": 3}
    head, engine, mask = step_table({**shown, "sides": {"decode": found}}).splitlines()[1:4]
    assert head.endswith("MB moved  device ms   stage 1   stage 2")
    assert engine.split() == ["engine", "8.00", "8.00", "80.0%", "0.00", "3.000", "4.00", "4.00"]
    assert mask.split() == ["mask", "0.00", "0.00", "0.0%", "0.00"]


def test_reading_back_is_one_step_with_all_that_is_inside_it(tiny_path: Path) -> None:
    """Its graphs are those of ``cpu``: among the rows of the provider that is profiled, they would not be its times."""
    pixels = np.zeros((32, 48, 3), np.uint8)
    found = {}
    for read_back in (False, True):
        codec = Codec(tiny_path, read_back=read_back)
        (round,) = profile.repeat(lambda codec=codec: codec.compress(pixels), 1, 0, {})  # type: ignore[misc]
        found[read_back] = figures([round], tokens=6, pixels=pixels.size // 3)
        assert sum(step["share"] for step in found[read_back]["steps"]) <= 1
    assert [step for step in found[True]["by_step"] if step not in found[False]["by_step"]] == ["read back"]
    (whole,) = [span for span in round.spans if span.name == "read back"]
    assert found[True]["by_step"]["read back"]["p50_ms"] == pytest.approx((whole.ended - whole.begun) / 1e6, abs=1e-4)
    moved = [sum(step["bytes"] for step in found[each]["steps"] if step["step"] == "network") for each in (False, True)]
    assert moved[0] == moved[1] > 0


@pytest.mark.parametrize("batch", [1, 3])
def test_the_command(uigc: Run, tmp_path: Path, tiny_path: Path, batch: int) -> None:
    options = ("--repeats", 2, "--warm-up", 1, "--json", "p.json", "--trace", "t.json", "--force", "--batch", batch)
    done = uigc("profile", "70x50", "--bundle", tiny_path, "--precision", "fp32", *options)
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "p.json").read_text())
    assert (result["width"], result["height"], result["batch"], result["precision"]) == (70, 50, batch, "fp32")
    assert list(result["sides"]) == ["encode", "decode"]
    for side in result["sides"].values():
        shares = sum(step["share"] for step in side["steps"]) + side["rest"]["share"]
        assert shares == pytest.approx(1, abs=1e-3)
        assert {step["stage"] for step in side["steps"]} == {None, *range(6)}
        seconds = side["total"]["p50_ms"] / 1e3
        assert side["tokens_per_second"] == pytest.approx(batch * 4 * 5 / seconds, rel=1e-2)
    text = done.stdout.decode()
    for word in ("encode 70x50", "decode 70x50", "network", "range coding", "stage 5", "rest", "megapixels/s"):
        assert word in text
    events = json.loads((tmp_path / "t.json").read_text())["traceEvents"]
    assert {event["ph"] for event in events} == {"M", "X"}
    assert sum(event["name"] == "decode" for event in events) == 2  # the repeats, without the warm-up
    assert all(event["ts"] >= 0 and event["dur"] >= 0 for event in events if event["ph"] == "X")


def test_targets(uigc: Run, tmp_path: Path, tiny: Codec, tiny_path: Path) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    (tmp_path / "a.uigc").write_bytes(tiny.compress(pixels))
    done = uigc("profile", "a.uigc", "--bundle", tiny_path, "--repeats", 1)
    assert b"decode 30x20" in done.stdout
    assert b"encode" not in done.stdout
    assert uigc("profile", "40x", "--bundle", tiny_path).returncode == ExitCode.INPUT
    assert uigc("profile", "99999x9", "--bundle", tiny_path).returncode == ExitCode.TOO_LARGE
    done = uigc("profile", "30x20", "--bundle", tiny_path, "--json", "a.uigc")
    assert done.returncode == ExitCode.OUTPUT


def test_ranges_for_the_profilers_of_devices(tiny: Codec, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    fake = types.ModuleType("nvtx")
    fake.push_range = calls.append  # type: ignore[attr-defined]
    fake.pop_range = lambda: calls.append("pop")  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "nvtx", fake)
    assert profile.nvtx_hooks("cpu") == {}
    data = tiny.compress(np.zeros((16, 16, 3), np.uint8))
    profile.repeat(lambda: tiny.decompress(data), 1, 0, profile.nvtx_hooks("cuda"))
    assert calls[:2] == ["header", "pop"]
    assert {"stage 0", "network 5", "decoder"} <= set(calls)
    assert calls.count("pop") == len(calls) / 2
    monkeypatch.setitem(sys.modules, "nvtx", None)
    assert profile.nvtx_hooks("cuda") == {}
