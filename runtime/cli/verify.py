"""``uigc verify``: compare the prior on the providers of this machine with the integer reference."""

from __future__ import annotations

import argparse
import json
import os
from functools import partial
from pathlib import Path

from uigc.runtime import providers
from uigc.runtime.arrays import Tokens
from uigc.runtime.bundle import Bundle
from uigc.runtime.cli.failures import Failures
from uigc.runtime.cli.progress_line import ProgressLine
from uigc.runtime.codec import Codec
from uigc.runtime.errors import MismatchError, ProviderError
from uigc.runtime.exactness import conformance
from uigc.runtime.exactness.verify import Outcome, examine_all, matrix, report
from uigc.runtime.io import files, image
from uigc.runtime.io.image_sources import images_in
from uigc.runtime.io.samples import SAMPLE
from uigc.runtime.io.streams import note, show
from uigc.runtime.providers import Provider


def image_grids(bundle: Bundle, folder: Path | None, failures: Failures | None = None) -> list[Tokens]:
    """Return the token grids of the sample photograph and of the images in ``folder``.

    Images that cannot be read are added to ``failures``; without it they raise an error, when all were tried.
    """
    codec = Codec(bundle)
    found = Failures("nothing was done with the others") if failures is None else failures
    paths = [SAMPLE, *(images_in(folder) if folder is not None else [])]

    def grid(path: Path) -> Tokens:
        return codec.tokenize(image.read(files.read_image(str(path)), None, codec.limits.check))

    grids = [found.attempt(str(path), partial(grid, path)) for path in paths]
    if failures is None:
        found.finish(len(paths))
    return [each for each in grids if each is not None]


def expect_outcomes(bundle: Bundle, chosen: list[Provider], outcomes: list[Outcome]) -> None:
    """Raise a :class:`ProviderError` if there was nothing to compare on one of the providers."""
    for provider in chosen:
        if not any(outcome.provider == provider.name for outcome in outcomes):
            raise ProviderError(
                f"Nothing was compared on the provider {provider.name!r}: it runs stages in "
                f"{' and '.join(provider.verified) or 'no precision'}, and the bundle has them in "
                f"{' and '.join(bundle.precisions('stage0'))}; build or export what it needs."
            )


def run(arguments: argparse.Namespace) -> None:
    """Compare, print the table, and raise an error if logits or weights differ or a provider failed."""
    if arguments.json:
        files.check_free(arguments.json, arguments.force)
    bundle = Bundle.load(arguments.bundle)
    chosen = providers.select(arguments.provider, arguments.engines)
    failures = Failures("the logits of the others were compared")
    grids = image_grids(bundle, arguments.images, failures)
    threads = os.cpu_count() or 1
    with ProgressLine(arguments.quiet) as line:
        cases = conformance.make_cases(bundle, arguments.windows, grids, arguments.seed, threads, line)
        outcomes = examine_all(bundle, chosen, cases, line, arguments.device)
    on_gpu = arguments.device if any(provider.on_gpu for provider in chosen) else None
    result = report(bundle, outcomes, arguments.windows, len(grids), on_gpu)
    show(matrix(outcomes))
    if arguments.json:
        files.write(arguments.json, (json.dumps(result, indent=1) + "\n").encode(), arguments.force)
    if result["different"]:
        wrong = dict.fromkeys(f"{o.provider} {o.precision} {o.setting}" for o in outcomes if o.different)
        raise MismatchError(
            f"{result['different']} of {result['values']} logits and weights differ from the reference "
            f"({', '.join(wrong)}); do not use these settings, and report them."
        )
    failed = [outcome for outcome in outcomes if outcome.error]
    if failed:
        raise ProviderError(f"{len(failed)} of {len(outcomes)} settings could not be checked: {failed[0].error}")
    expect_outcomes(bundle, chosen, outcomes)
    failures.finish(len(grids) + len(failures))
    if not arguments.quiet:
        note(f"All {result['values']:,} logits and weights equal the reference.")
