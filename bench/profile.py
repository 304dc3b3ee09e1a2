"""``uigc profile``: where the time of an image goes, step by step. ``docs/PROFILING.md`` explains how to read it.

The codec says what it does (:mod:`uigc.runtime.spans`); here it is repeated, added up, printed and traced.
"""

from __future__ import annotations

import argparse
import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uigc.bench.result import machine
from uigc.runtime.arrays import Pixels
from uigc.runtime.cli.arguments import make_codec
from uigc.runtime.cli.progress_line import ProgressLine
from uigc.runtime.codec import Codec
from uigc.runtime.format import bitstream
from uigc.runtime.io import files, image
from uigc.runtime.io.samples import SAMPLE
from uigc.runtime.io.streams import show
from uigc.runtime.outcomes import unwrap
from uigc.runtime.spans import Recorder, Span, recording

SCHEMA = 1
GRAPHS = ("encoder", "network", "decoder", "engine", "copy in", "copy out")  # all else is the host's part
READ_BACK = "read back"  # with all that is inside: that is work of the provider cpu, and not of the one profiled
FRAME = "stage"  # the span around a stage's steps; time in it outside all steps is reported as the rest


@dataclass(frozen=True)
class Target:
    """The work to profile: a file to decode, and the image to encode, None where a file was given."""

    name: str
    data: bytes
    pixels: Pixels | None


@dataclass(frozen=True)
class Round:
    """One repeat: from ``begun`` to ``ended`` in nanoseconds, and the spans within."""

    begun: int
    ended: int
    spans: list[Span]


def target(name: str, codec: Codec, mask: str) -> Target:
    """A .uigc file, an image, or a size such as 768x512, to which the sample is scaled."""
    size = re.fullmatch(r"(\d+)x(\d+)", name)
    if size and not Path(name).exists():
        codec.limits.check(int(size[1]), int(size[2]))
        pixels = sample(int(size[1]), int(size[2]))
    else:
        data = files.read(name)
        if data.startswith(bitstream.MAGIC):
            return Target(name, data, None)
        pixels = image.read(data, check_size=codec.limits.check)
    return Target(name, codec.compress(pixels, mask), pixels)


def sample(width: int, height: int) -> Pixels:
    """Return the sample photograph, uint8 (height, width, 3), scaled to a size."""
    from PIL import Image

    with Image.open(SAMPLE) as picture:
        return np.asarray(picture.convert("RGB").resize((width, height), Image.Resampling.BICUBIC))


def sides(codec: Codec, what: Target, mask: str, batch: int) -> dict[str, Callable[[], object]]:
    """Return the functions to repeat: ``encode``, unless a file was given, and ``decode``."""
    if batch == 1:
        runs: dict[str, Callable[[], object]] = {"decode": lambda: codec.decompress(what.data)}
        if what.pixels is not None:
            pixels = what.pixels
            runs = {"encode": lambda: codec.compress(pixels, mask), **runs}
        return runs

    def all_of(outcomes: Any) -> list[object]:
        return [unwrap(outcome) for outcome in outcomes]

    runs = {"decode": lambda: all_of(codec.decompress_many([what.data] * batch, batch=batch, jobs=1))}
    if what.pixels is not None:
        images = [what.pixels] * batch
        runs = {"encode": lambda: all_of(codec.compress_many(images, mask, batch=batch, jobs=1)), **runs}
    return runs


def nvtx_hooks(provider: str) -> dict[str, Callable[..., Any]]:
    """Return the hooks that make spans NVTX ranges; they do nothing on a CPU or without the package ``nvtx``."""
    if provider == "cpu":
        return {}
    try:
        import nvtx
    except ImportError:
        return {}
    return {"on_begin": nvtx.push_range, "on_end": nvtx.pop_range}


def repeat(run: Callable[[], object], repeats: int, warm_up: int, hooks: dict[str, Callable[..., Any]]) -> list[Round]:
    rounds = []
    for number in range(warm_up + repeats):
        with recording(Recorder(**hooks)) as recorder:
            begun = time.perf_counter_ns()
            run()
            ended = time.perf_counter_ns()
        if number >= warm_up:
            rounds.append(Round(begun, ended, recorder.spans))
    return rounds


def figures(rounds: list[Round], tokens: int, pixels: int) -> dict[str, Any]:
    """Return the figures of one side.

    ``tokens`` and ``pixels`` are those of a whole batch. Times in milliseconds, shares of the time of all.
    """
    totals = np.array([each.ended - each.begun for each in rounds]) / 1e6
    own: dict[tuple[str, int | None], NDArray[np.float64]] = {}
    device: dict[tuple[str, int | None], NDArray[np.float64]] = {}
    moved: dict[tuple[str, int | None], int] = {}
    for index, each in enumerate(rounds):
        for span in sorted(_folded(each.spans), key=lambda span: span.begun):
            if span.name != FRAME:
                key = span.name, span.stage
                own.setdefault(key, np.zeros(len(rounds)))[index] += span.own / 1e6
                if span.device:
                    device.setdefault(key, np.zeros(len(rounds)))[index] += span.device / 1e6
                moved[key] = moved.get(key, 0) + span.bytes
    rest, on_device = totals - sum(own.values(), np.zeros(len(rounds))), _by_step(device)
    in_graphs = sum((times for (name, _), times in own.items() if name in GRAPHS), np.zeros(len(rounds)))
    seconds = float(np.median(totals)) / 1e3
    steps = [
        {
            "step": name,
            "stage": stage,
            **_times(times, totals, device.get((name, stage))),
            "bytes": moved[name, stage] // len(rounds),
        }
        for (name, stage), times in own.items()
    ]
    return {
        "total": _times(totals, totals),
        "tokens_per_second": round(tokens / seconds, 1),
        "megapixels_per_second": round(pixels / seconds / 1e6, 4),
        "host": _times(totals - in_graphs, totals),
        "rest": _times(rest, totals),
        "steps": steps,
        "by_step": {name: _times(times, totals, on_device.get(name)) for name, times in _by_step(own).items()},
    }


def _folded(spans: list[Span]) -> list[Span]:
    """Return spans in which that of reading back stands for all of those inside it."""
    whole = [span for span in spans if span.name == READ_BACK]
    outside = [span for span in spans if not any(each.begun <= span.begun <= each.ended for each in whole)]
    return outside + [replace(each, children=0) for each in whole]


def _times(
    times: NDArray[np.float64], totals: NDArray[np.float64], device: NDArray[np.float64] | None = None
) -> dict[str, float]:
    found = {
        "p50_ms": round(float(np.median(times)), 4),
        "p95_ms": round(float(np.percentile(times, 95)), 4),
        "share": round(float(times.sum() / totals.sum()), 5),
    }
    return found if device is None else {**found, "device_p50_ms": round(float(np.median(device)), 4)}


def _by_step(each: dict[tuple[str, int | None], NDArray[np.float64]]) -> dict[str, NDArray[np.float64]]:
    """Return the figures of each step, its stages together."""
    sums: dict[str, NDArray[np.float64]] = {}
    for (name, _), times in each.items():
        sums[name] = sums.get(name, 0) + times
    return sums


def step_table(result: dict[str, Any]) -> str:
    """Return a table for the terminal: one row for each step, median milliseconds of each stage beside the total."""
    lines = []
    for side, found in result["sides"].items():
        stages = sorted({step["stage"] for step in found["steps"] if step["stage"] is not None})
        batch = f", batch {result['batch']}" if result["batch"] > 1 else ""
        total, rest = found["total"], found["rest"]
        timed = any("device_p50_ms" in step for step in found["by_step"].values())
        head = f"{'step':16}{'p50 ms':>10}{'p95 ms':>10}{'share':>8}{'MB moved':>10}" + timed * f"{'device ms':>11}"
        lines += [
            f"{side} {result['width']}x{result['height']}{batch}, {result['provider']} {result['precision']}",
            head + "".join(f"{f'stage {stage}':>10}" for stage in stages),
        ]
        for name, all_stages in found["by_step"].items():
            steps = {step["stage"]: step for step in found["steps"] if step["step"] == name}
            moved = sum(step["bytes"] for step in steps.values()) / 1e6
            row = _row(name, all_stages) + f"{moved:10.2f}" + timed * _device(all_stages)
            lines.append(row + "".join(f"{steps[stage]['p50_ms']:10.2f}" for stage in stages if stage in steps))
        lines += [_row("rest", rest), _row("host", found["host"]), _row("all", total)]
        speed = f"{found['tokens_per_second']:.0f} tokens/s, {found['megapixels_per_second']:.2f} megapixels/s"
        lines += [f"{speed}, {result['repeats']} repeats", ""]
    return "\n".join(lines[:-1])


def _device(times: dict[str, float]) -> str:
    return f"{times['device_p50_ms']:11.3f}" if "device_p50_ms" in times else " " * 11


def _row(name: str, times: dict[str, float]) -> str:
    return f"{name:16}{times['p50_ms']:10.2f}{times['p95_ms']:10.2f}{100 * times['share']:7.1f}%"


def trace_events(rounds: dict[str, list[Round]]) -> dict[str, Any]:
    """Return events in Chrome's trace format: one process for each side, one thread for each thread, microseconds."""
    first = min(each.begun for side in rounds.values() for each in side)
    events: list[dict[str, Any]] = []

    def event(name: str, side: int, thread: int, begun: int, ended: int, **details: Any) -> None:
        when = {"ts": (begun - first) / 1e3, "dur": (ended - begun) / 1e3}
        events.append({"name": name, "ph": "X", "pid": side, "tid": thread, **when, "args": details})

    for number, (side, of_side) in enumerate(rounds.items()):
        events.append({"name": "process_name", "ph": "M", "pid": number, "tid": 0, "args": {"name": side}})
        threads: dict[int, int] = {}
        for index, each in enumerate(of_side):
            event(side, number, 0, each.begun, each.ended, round=index)
            for span in each.spans:
                thread = threads.setdefault(span.thread, len(threads) + 1)
                name = span.name if span.stage is None else f"{span.name} {span.stage}"
                event(name, number, thread, span.begun, span.ended, stage=span.stage, bytes=span.bytes)
    return {"traceEvents": events, "displayTimeUnit": "ms"}


def run(arguments: argparse.Namespace) -> None:
    for name in (arguments.json, arguments.trace):
        if name:
            files.check_free(name, arguments.force)
    codec = make_codec(arguments)
    with ProgressLine(arguments.quiet) as progress:
        progress("warming up", 0, 1)
        what = target(arguments.target, codec, arguments.mask)
        header, _ = bitstream.unpack(what.data)
        rounds = {}
        for side, work in sides(codec, what, arguments.mask, arguments.batch).items():
            progress(side, 0, arguments.repeats)
            hooks = nvtx_hooks(arguments.provider)
            rounds[side] = repeat(work, arguments.repeats, arguments.warm_up, hooks)
    tokens, pixels = codec.decode_tokens(what.data).size * arguments.batch, header.width * header.height
    result = {
        "schema": SCHEMA,
        **machine(),
        "target": Path(what.name).name,
        "width": header.width,
        "height": header.height,
        "mask": header.mode.label,
        "bytes": len(what.data),
        "batch": arguments.batch,
        "provider": arguments.provider,
        "precision": codec.precision,
        "pixel_precision": codec.pixel_precision,
        "threads": arguments.threads,
        "repeats": arguments.repeats,
        "warm_up": arguments.warm_up,
        "prior": codec.bundle.prior_id.hex(),
        "sides": {side: figures(each, tokens, pixels * arguments.batch) for side, each in rounds.items()},
    }
    show(step_table(result))
    for name, content in ((arguments.json, result), (arguments.trace, trace_events(rounds))):
        if name:
            files.write(name, (json.dumps(content, indent=1) + "\n").encode(), arguments.force)
