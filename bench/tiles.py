"""A large image within several limits of memory: ``python -m uigc.bench.tiles --json FILE``.

Each limit runs in a process of its own, which compresses the image and decompresses the file that the first limit made.
All results are compared with those of the largest limit, which needs no tiles if it is large enough.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uigc.bench.isolated import codec_arguments, peak_bytes, run_isolated
from uigc.bench.profile import sample
from uigc.bench.result import machine, write
from uigc.runtime.cli.arguments import add_codec_arguments, make_codec, size
from uigc.runtime.codec import Codec

SCHEMA = 1
LIMITS = (256, 512, 2048, 8192)  # megabytes
IMAGE, FILE, PAINTED = "image.npy", "first.uigc", "{}.npy"


def image(width: int, height: int) -> NDArray[np.uint8]:
    """The sample, mirrored where it meets itself, darker from left to right, so that no two parts are alike."""
    tile = sample(768, 512)
    tile = np.concatenate([np.concatenate([tile, tile[:, ::-1]], 1), np.concatenate([tile[::-1], tile[::-1, ::-1]], 1)])
    whole = np.tile(tile, (-(-height // len(tile)), -(-width // tile.shape[1]), 1))[:height, :width]
    return (whole * np.linspace(1, 0.4, width, dtype=np.float32)[:, None]).astype(np.uint8)


def work_here(codec: Codec, limit: int, folder: Path) -> dict[str, Any]:
    """Compress the image of ``folder`` and decompress its file; return the results and their cost."""
    parts: dict[str, int] = {}

    def progress(label: str, done: int, total: int) -> None:
        parts[label] = total

    pixels = np.load(folder / IMAGE)
    begun = time.perf_counter()
    data = codec.compress(pixels, progress=progress)
    encoded, file = time.perf_counter(), folder / FILE
    encode_peak = peak_bytes()
    del pixels
    if not file.exists():
        file.write_bytes(data)
    decoding = time.perf_counter()
    painted = codec.decompress(file.read_bytes(), progress=progress)
    decoded = time.perf_counter()
    np.save(folder / PAINTED.format(limit), painted)
    return {
        "megabytes": limit,
        "tiles": {name: parts[name] for name in ("encoder", "decoder")},
        "file_sha256": hashlib.sha256(data).hexdigest(),
        "bytes": len(data),
        "encode_seconds": round(encoded - begun, 2),
        "decode_seconds": round(decoded - decoding, 2),
        "encode_peak_bytes": encode_peak,
        "peak_bytes": peak_bytes(),
    }


def compared(folder: Path, limits: list[int]) -> dict[str, Any]:
    """Pixels of each limit against those of the last: the largest difference of levels, and how many differ."""
    reference = np.load(folder / PAINTED.format(limits[-1]), mmap_mode="r")
    found = {}
    for limit in limits[:-1]:
        painted = np.load(folder / PAINTED.format(limit), mmap_mode="r")
        largest, different = 0, 0
        for row in range(0, len(reference), 256):
            error = np.abs(painted[row : row + 256].astype(np.int16) - reference[row : row + 256])
            largest, different = max(largest, int(error.max())), different + int(np.count_nonzero(error))
        found[str(limit)] = {"largest": largest, "different": different, "values": int(reference.size)}
    return found


def run(arguments: argparse.Namespace, forwarded: list[str]) -> dict[str, Any]:
    codec, limits = make_codec(arguments), sorted(arguments.limits)
    width, height = arguments.size
    points = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        np.save(folder / IMAGE, image(width, height))
        for limit in limits:
            argv = ["--one", folder, "--max-memory", limit, *forwarded]
            points.append(run_isolated("uigc.bench.tiles", argv, f"The limit of {limit} MB"))
            print(f"{limit} MB: peak {points[-1]['peak_bytes'] / 2**20:.0f} MiB, {points[-1]['tiles']}", flush=True)
        differences = compared(folder, limits)
    return {
        "schema": SCHEMA,
        **machine(),
        "prior": codec.bundle.prior_id.hex(),
        "provider": arguments.provider,
        "pixel_precision": codec.pixel_precision,
        "width": width,
        "height": height,
        "files": len({point["file_sha256"] for point in points}),
        "points": points,
        "pixels_against_the_last": differences,
    }


def main(given: Iterable[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m uigc.bench.tiles", description=__doc__)
    parser.add_argument("--size", type=size, default=(7680, 4320), help="WIDTHxHEIGHT (default: 7680x4320)")
    text = f"megabytes, two or more (default: {' '.join(map(str, LIMITS))})"
    parser.add_argument("--limits", type=int, nargs="+", default=list(LIMITS), help=text)
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)  # for the child process
    add_codec_arguments(parser)
    argv = list(sys.argv[1:] if given is None else given)
    arguments = parser.parse_args(argv)
    if arguments.one:
        print(json.dumps(work_here(make_codec(arguments), arguments.max_memory, arguments.one)))
        return
    result = run(arguments, codec_arguments(argv, ("--size", "--json", "--one"), ("--limits",)))
    worst = max((each["largest"] for each in result["pixels_against_the_last"].values()), default=0)
    files = f"{result['files']} distinct contents of {len(result['points'])} files"
    print(f"{files}; max |difference| of pixels: {worst}")
    if arguments.json:
        write(arguments.json, result)
    raise SystemExit(0 if result["files"] == 1 else 1)


if __name__ == "__main__":
    main()
