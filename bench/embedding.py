"""The decoder for C beside the package, in one run: ``python -m uigc.bench.embedding PREFIX IMAGES --json FILE``.

PREFIX is the folder that ``cmake --install`` filled (``docs/EMBEDDING.md``). Every image is compressed under every
mask, and both decode the files: grids must be equal, and pixels are compared. Then both decode one of the files in
turns, with loaded graphs and as whole processes.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from uigc.bench.c_library import CCodec, load
from uigc.bench.interleaved import Times, time_interleaved
from uigc.bench.result import machine, write
from uigc.runtime.bundle import Bundle
from uigc.runtime.codec import Codec
from uigc.runtime.errors import InexactError
from uigc.runtime.io import image

SCHEMA = 1
MASKS = ("entire", "edge", "edge_more", "edge_more:0+draw7")
SETTINGS = ((2, "int8"), (2, "fp32"), (1, "int8"))
"""Threads, and precision of the pixel decoder."""


def agreement(codec: Codec, other: CCodec, paths: Sequence[Path]) -> dict[str, Any]:
    """Decode a file of each image under each mask with both; raises an :class:`InexactError` if grids differ."""
    largest, different, samples = 0, 0, 0
    for path in paths:
        pixels = image.read(path.read_bytes())
        tokens = codec.tokenize(pixels)
        for mask in MASKS:
            encoded = codec.encode_tokens(tokens, pixels, mask)
            data = encoded.data
            if not np.array_equal(encoded.grid, other.decode_tokens(data)):
                raise InexactError(f"The decoders disagree on {path.name} under the mask {mask}; report this.")
            apart = np.abs(codec.decompress(data).astype(np.int16) - other.decompress(data))
            largest, different = max(largest, int(apart.max())), different + int(np.count_nonzero(apart))
            samples += apart.size
    return {"files": len(paths) * len(MASKS), "largest_difference": largest, "samples_that_differ": different / samples}


def in_turns(calls: Any, bundle: Bundle, data: bytes, repeats: int) -> list[dict[str, Any]]:
    """Time both with graphs that are loaded: from bytes to tokens, and to the image."""
    rows = []
    for threads, precision in SETTINGS:
        codec = Codec(bundle, threads=threads, pixel_precision=precision)
        with CCodec(calls, bundle.path, threads, precision) as other:
            contenders: dict[str, Callable[[], object]] = {
                "python tokens": partial(codec.decode_tokens, data),
                "c tokens": partial(other.decode_tokens, data),
                "python image": partial(codec.decompress, data),
                "c image": partial(other.decompress, data),
            }
            taken = time_interleaved(contenders, repeats)
        codec.close()
        for what in ("tokens", "image"):
            row = {"what": what, "threads": threads, "pixel_precision": precision}
            rows.append(row | _compared(taken[f"python {what}"], taken[f"c {what}"]))
    return rows


def processes(prefix: Path, bundle: Bundle, data: bytes, repeats: int) -> dict[str, Any]:
    """Time whole programs, from their start to a written PPM file."""
    with tempfile.TemporaryDirectory() as place:
        given, made = Path(place) / "in.uigc", Path(place) / "out.ppm"
        given.write_bytes(data)

        def running(*command: object) -> Callable[[], object]:
            def run() -> None:
                subprocess.run([*map(str, command)], check=True)
                made.unlink()

            return run

        uigc = [sys.executable, "-m", "uigc.runtime.cli", "decompress", given, made, "--bundle", bundle.path]
        taken = time_interleaved(
            {
                "python": running(*uigc),
                "c": running(prefix / "bin" / "uigc-decode", bundle.path, given, made),
            },
            repeats,
            warm_up=1,
        )
    return {"what": "whole process", **_compared(taken["python"], taken["c"])}


def _compared(python: Times, c: Times) -> dict[str, Any]:
    """``ratio``: the time in C divided by that in Python, of the medians and of the shortest times."""
    return {
        "repeats": len(c.milliseconds),
        "python_ms": round(python.median, 1),
        "c_ms": round(c.median, 1),
        "python_min_ms": round(min(python.milliseconds), 1),
        "c_min_ms": round(min(c.milliseconds), 1),
        "ratio": round(c.median / python.median, 3),
        "min_ratio": round(min(c.milliseconds) / min(python.milliseconds), 3),
    }


def table(result: dict[str, Any]) -> str:
    """Return the times in Markdown, as docs/EMBEDDING.md shows them."""
    lines = ["| | threads | pixel decoder | C / Python, medians | C / Python, shortest |", "|---|---|---|---|---|"]
    for row in result["times"]:
        setting = f"{row.get('threads', '')} | {row.get('pixel_precision', '')}"
        lines.append(f"| {row['what']} | {setting} | {row['ratio']:.2f} | {row['min_ratio']:.2f} |")
    return "\n".join(lines)


def main(given: Iterable[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m uigc.bench.embedding", description=__doc__)
    parser.add_argument("prefix", type=Path, metavar="PREFIX", help="folder of the installed library")
    parser.add_argument("images", type=Path, metavar="IMAGES", help="folder of PNG images; the first one is timed")
    parser.add_argument("--bundle", help="bundle to use (default: the one installed with uigc)")
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    arguments = parser.parse_args(None if given is None else list(given))
    bundle, calls = Bundle.load(arguments.bundle), load(arguments.prefix / "lib" / "libuigc.so")
    paths = sorted(arguments.images.glob("*.png"))
    codec = Codec(bundle)
    with CCodec(calls, bundle.path, 0) as other:
        found = agreement(codec, other, paths)
    data = codec.compress(image.read(paths[0].read_bytes()), "edge")
    codec.close()
    result = {
        "schema": SCHEMA,
        **machine(),
        "uigc": calls.uigc_version().decode(),
        "prior": bundle.prior_id.hex(),
        "agreement": found,
        "image": paths[0].name,
        "times": [
            *in_turns(calls, bundle, data, arguments.repeats),
            processes(arguments.prefix, bundle, data, arguments.repeats),
        ],
    }
    print(found, table(result), sep="\n")
    if arguments.json:
        write(arguments.json, result)


if __name__ == "__main__":
    main()
