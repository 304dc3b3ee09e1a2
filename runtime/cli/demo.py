"""``uigc demo``: a photograph to a kilobyte and back, and both side by side."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

from uigc.runtime.cli.arguments import make_codec, reading
from uigc.runtime.cli.progress_line import ProgressLine
from uigc.runtime.io import files, image, image_outputs
from uigc.runtime.io.samples import SAMPLE
from uigc.runtime.io.streams import show


def run(arguments: argparse.Namespace) -> None:
    """Write NAME.uigc and NAME.png (original left, decoded right), and print sizes and times."""
    source = arguments.image or str(SAMPLE)
    folder = Path(arguments.output)
    stem = "sample" if arguments.image is None else f"{Path(source).stem}-uigc"
    for suffix in (".uigc", ".png"):
        files.check_free(folder / f"{stem}{suffix}", arguments.force)
    codec = make_codec(arguments)
    pixels = image.read(files.read_image(source), reading(arguments), codec.limits.check)
    with ProgressLine(arguments.quiet) as progress:
        begun = time.perf_counter()
        data = codec.compress(pixels, arguments.mask, progress=progress)
        compressed = time.perf_counter()
        files.write(folder / f"{stem}.uigc", data, arguments.force)
        back = codec.decompress((folder / f"{stem}.uigc").read_bytes(), progress=progress)
        done = time.perf_counter()
    both = np.concatenate([pixels, np.full_like(pixels[:, :8], 255), back], axis=1)
    files.write(folder / f"{stem}.png", image_outputs.encode(both, ".png"), arguments.force)
    if arguments.quiet:
        return
    height, width = pixels.shape[:2]
    show(f"{Path(source).name}: {width}x{height} pixels, {pixels.nbytes} bytes uncompressed")
    show(f"{stem}.uigc: {len(data)} bytes, {8 * len(data) / (width * height):.5f} bits per pixel")
    show(f"{stem}.png: original left, decoded right")
    show(f"compressed in {compressed - begun:.2f} s, decompressed in {done - compressed:.2f} s, loading included")
