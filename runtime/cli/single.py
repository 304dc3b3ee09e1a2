"""``uigc compress`` and ``uigc decompress`` of one input: its errors are the command's, and its figures the report."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from uigc.runtime.cli.arguments import make_codec, reading
from uigc.runtime.cli.logs import about
from uigc.runtime.cli.output_format import OutputFormat
from uigc.runtime.cli.partial import image_of
from uigc.runtime.cli.places import Plan
from uigc.runtime.cli.progress_line import ProgressLine
from uigc.runtime.format.bitstream import MAX_FILE
from uigc.runtime.io import files, image, image_outputs
from uigc.runtime.io.streams import note
from uigc.runtime.outcomes import unwrap
from uigc.runtime.progressive import decompress_partial


def compress(arguments: argparse.Namespace, plan: Plan, rate: dict[str, Any]) -> None:
    """Compress an image to a .uigc file, of a mask or a rate as :meth:`Codec.compress` takes it."""
    place = plan.places[0]
    target = unwrap(place.target)
    if _finished(arguments, target):
        return
    plan.make_folder()
    codec = make_codec(arguments)
    with about(place.source):
        pixels = image.read(files.read_image(place.source), reading(arguments), codec.limits.check)
    with ProgressLine(arguments.quiet) as progress:
        data = codec.compress(pixels, **rate, progress=progress)
    files.write(target, data, arguments.force)
    height, width = pixels.shape[:2]
    bpp = 8 * len(data) / (width * height)
    _report(arguments, target, f"{width}x{height} pixels, {len(data)} bytes, {bpp:.5f} bits per pixel")


def decompress(arguments: argparse.Namespace, plan: Plan, output: OutputFormat) -> None:
    """Decompress a .uigc file to an image, in the format of the output's suffix."""
    place = plan.places[0]
    target = unwrap(place.target)
    suffix = output.of("" if target == files.STREAM else Path(target).suffix)
    if _finished(arguments, target):
        return
    plan.make_folder()
    data = files.read(place.source, MAX_FILE)
    with ProgressLine(arguments.quiet) as progress, about(place.source):
        codec = make_codec(arguments)
        if arguments.partial:
            pixels = image_of(decompress_partial(data, codec))
        else:
            pixels = codec.decompress(data, progress=progress)
    files.write(target, image_outputs.encode(pixels, suffix, output.quality), arguments.force)
    _report(arguments, target, f"{pixels.shape[1]}x{pixels.shape[0]} pixels from {len(data)} bytes")


def _finished(arguments: argparse.Namespace, target: str) -> bool:
    """Return whether the output exists and is to be left alone; refuse it if it exists and is not."""
    if arguments.skip_existing and os.path.isfile(target):
        _report(arguments, target, "exists and was left as it is")
        return True
    files.check_free(target, arguments.force)
    return False


def _report(arguments: argparse.Namespace, target: str, text: str) -> None:
    """Print a line to standard error, so that ``-`` keeps standard output clean."""
    if not arguments.quiet:
        note(text if target == files.STREAM else f"{target}: {text}")
