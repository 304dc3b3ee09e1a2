"""From the arguments of ``uigc report`` to its page."""

from __future__ import annotations

import argparse
import json
from functools import partial
from pathlib import Path
from typing import Any

from uigc.bench.figures import LABELS, Evaluation, read_all
from uigc.bench.report.page import page
from uigc.bench.report.pictures import Comparison, Maker
from uigc.runtime.cli.arguments import make_codec, rate
from uigc.runtime.cli.failures import Failures
from uigc.runtime.cli.progress_line import ProgressLine
from uigc.runtime.errors import InputError
from uigc.runtime.io import files
from uigc.runtime.io.image_sources import images_in
from uigc.runtime.io.streams import show

ANCHORS = Path(__file__).parent.parent / "anchors.json"


def anchors() -> list[dict[str, Any]]:
    """Return the points of the literature that the plots mark, each with its source."""
    found: list[dict[str, Any]] = json.loads(ANCHORS.read_text(encoding="utf-8"))
    return found


def run(arguments: argparse.Namespace) -> None:
    """Write the page, and raise an error if an image could not be shown."""
    files.check_free(arguments.output, arguments.force)
    options = rate(arguments)
    evaluations = read_all(arguments.figures)
    failures = Failures("the page shows the others")
    comparisons = _compare(arguments, options, evaluations, failures) if arguments.images else []
    text = page(evaluations, anchors(), comparisons, LABELS[arguments.peer]).encode()
    files.write(arguments.output, text, arguments.force)
    if not arguments.quiet:
        shown = f", {len(comparisons)} images" if comparisons else ""
        show(f"{arguments.output}: {len(evaluations)} codecs or setups{shown}, {len(text) / 1e6:.1f} MB")
    failures.finish(len(comparisons) + len(failures))


def _compare(
    arguments: argparse.Namespace, options: dict[str, Any], evaluations: list[Evaluation], failures: Failures
) -> list[Comparison]:
    """Return the comparison of every image of the folder that can be read."""
    paths = images_in(arguments.images)
    measured = set(evaluations[0].pictures)
    if strangers := [path.name for path in paths if path.name not in measured]:
        raise InputError(f"{arguments.figures[0]} has no figures of {strangers[0]}; measure the images that are shown.")
    maker = Maker(make_codec(arguments), options, arguments.peer, arguments.networks)
    made = []
    with ProgressLine(arguments.quiet) as progress:
        for done, path in enumerate(paths):
            progress("comparing", done, len(paths))
            made.append(failures.attempt(str(path), partial(maker.compare, path)))
    return [each for each in made if each is not None]
