"""Time and memory by the size of the image: ``python -m uigc.bench.scaling --json FILE --plot docs/scaling.png``.

Each size is decoded in a process of its own, so that the peak of its memory is its own; the files hold tokens of the
sample, repeated. ``docs/PROFILING.md`` describes the JSON. The plot needs matplotlib (the extra ``bench``).
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from uigc.bench.interleaved import time_interleaved
from uigc.bench.isolated import codec_arguments, peak_bytes, run_isolated
from uigc.bench.plotting import two_charts
from uigc.bench.profile import sample
from uigc.bench.result import machine, write
from uigc.runtime.cli.arguments import add_codec_arguments, make_codec, size
from uigc.runtime.codec import Codec

SCHEMA = 1
SIZES = ((384, 256), (768, 512), (1536, 1024), (1920, 1080), (3840, 2160), (7680, 4320))  # 0.1 to 33 megapixels
WITHIN = 0.15  # how far the slope may be from 1


def made(codec: Codec, width: int, height: int, mask: str) -> bytes:
    """Return the file of an image of a size: the sample, repeated as often as it takes."""
    patch = codec.bundle.patch
    tile = sample(40 * patch, 24 * patch)
    down, across = -(-height // tile.shape[0]), -(-width // tile.shape[1])
    tokens = np.tile(codec.tokenize(tile), (down, across))[: -(-height // patch), : -(-width // patch)]
    pixels = np.tile(tile, (down, across, 1))[:height, :width]
    return codec.encode_tokens(np.ascontiguousarray(tokens), np.ascontiguousarray(pixels), mask).data


def decode_here(codec: Codec, data: bytes, repeats: int) -> dict[str, Any]:
    """Return times of decoding, after one warm-up, and the peak memory of this process."""
    before = peak_bytes()
    times = time_interleaved({"decode": lambda: codec.decompress(data)}, repeats, warm_up=1)["decode"]
    return {
        "p50_ms": round(times.median, 2),
        "p95_ms": round(times.p95, 2),
        "repeats": repeats,
        "peak_bytes": peak_bytes(),
        "idle_bytes": before,
    }


def fit(points: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the slope of log time over log pixels by least squares, and whether it is within 15 % of 1."""
    pixels = np.log([point["width"] * point["height"] for point in points])
    times = np.log([point["p50_ms"] for point in points])
    slope, _ = np.polyfit(pixels, times, 1)
    return {
        "fit": "log time over log pixels, least squares",
        "slope": round(float(slope), 4),
        "linear": bool(abs(slope - 1) <= WITHIN),
    }


def plot(result: dict[str, Any], path: Path) -> None:
    """Time and memory over megapixels, on logarithmic axes."""
    points = result["points"]
    megapixels = [point["width"] * point["height"] / 1e6 for point in points]
    middle = len(points) // 2
    level = points[middle]["p50_ms"] / 1e3 / megapixels[middle]
    with two_charts(path, f"{result['processor']}, {result['date']}") as (left, right):
        left.loglog(megapixels, [point["p50_ms"] / 1e3 for point in points], "o-", label="decode, median")
        left.loglog(megapixels, [level * size for size in megapixels], "--", color="gray", label="slope 1")
        left.set(xlabel="megapixels", ylabel="seconds", title=f"time: slope {result['slope']:.2f}")
        left.legend()
        right.loglog(megapixels, [point["peak_bytes"] / 2**20 for point in points], "o-", color="tab:orange")
        right.set(xlabel="megapixels", ylabel="MiB", title="peak memory of the process")
        for axes in (left, right):
            axes.grid(True, which="both", alpha=0.3)


def run(arguments: argparse.Namespace, forwarded: list[str]) -> dict[str, Any]:
    codec = make_codec(arguments)
    points = []
    with tempfile.TemporaryDirectory() as folder:
        for width, height in arguments.size:
            path = Path(folder) / f"{width}x{height}.uigc"
            path.write_bytes(made(codec, width, height, arguments.mask))
            repeats = max(3, min(arguments.repeats, math.ceil(arguments.repeats * 1e6 / (width * height))))
            argv = ["--one", path, "--repeats", repeats, *forwarded]
            found = run_isolated("uigc.bench.scaling", argv, f"Decoding {path.name}")
            print(f"{width}x{height}: {found['p50_ms']:.0f} ms, peak {found['peak_bytes'] / 2**20:.0f} MiB", flush=True)
            points.append({"width": width, "height": height, "bytes": path.stat().st_size, **found})
    return {
        "schema": SCHEMA,
        **machine(),
        "prior": codec.bundle.prior_id.hex(),
        "provider": arguments.provider,
        "precision": codec.precision,
        "mask": arguments.mask,
        "points": points,
        **fit(points),
    }


def main(given: Iterable[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m uigc.bench.scaling", description=__doc__)
    parser.add_argument(
        "--size", type=size, nargs="+", default=list(SIZES), help="WIDTHxHEIGHT (default: six, to 33 MP)"
    )
    parser.add_argument("--mask", default="edge", help="mask of the files (default: edge)")
    parser.add_argument("--repeats", type=int, default=10, help="up to a megapixel; fewer above, but 3 (default: 10)")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    parser.add_argument("--plot", type=Path, help="draw them into this PNG")
    parser.add_argument("--from-json", type=Path, help="measure nothing and draw the figures of this file")
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)  # for the child process
    add_codec_arguments(parser)
    argv = list(sys.argv[1:] if given is None else given)
    arguments = parser.parse_args(argv)
    if arguments.one:
        print(json.dumps(decode_here(make_codec(arguments), arguments.one.read_bytes(), arguments.repeats)))
        return
    if arguments.from_json:
        result = json.loads(arguments.from_json.read_text(encoding="utf-8"))
    else:
        own = "--mask", "--repeats", "--json", "--plot", "--from-json", "--one"
        result = run(arguments, codec_arguments(argv, own, ("--size",)))
    print(f"slope {result['slope']} ({result['fit']}), {'linear' if result['linear'] else 'NOT linear'} within 15 %")
    if arguments.json:
        write(arguments.json, result)
    if arguments.plot:
        plot(result, arguments.plot)


if __name__ == "__main__":
    main()
