"""``uigc compress`` and ``uigc decompress`` of many inputs; one that fails stops no other."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar

from uigc.runtime import providers
from uigc.runtime.arrays import Pixels
from uigc.runtime.cli.arguments import make_codec, reading, settle_provider
from uigc.runtime.cli.failures import Failures
from uigc.runtime.cli.logs import LOG, about
from uigc.runtime.cli.output_format import OutputFormat
from uigc.runtime.cli.partial import image_of, wholes_or_parts
from uigc.runtime.cli.places import Place, Plan
from uigc.runtime.cli.progress_line import ProgressLine
from uigc.runtime.codec import DEFAULT_JOBS
from uigc.runtime.errors import OutputError, UigcError
from uigc.runtime.format.bitstream import MAX_FILE
from uigc.runtime.io import files, image, image_outputs
from uigc.runtime.outcomes import capture, unwrap

MAX_JOBS = 8  # by default; memory grows with the number of jobs

S = TypeVar("S")
R = TypeVar("R")


@dataclass(frozen=True)
class Work(Generic[S, R]):
    """What is done with each input: it is read by name, processed with others, and encoded to bytes."""

    read: Callable[[str], S]
    process: Callable[[Iterator[S | UigcError]], Iterator[R | UigcError]]
    encode: Callable[[R], bytes]


def compress(arguments: argparse.Namespace, plan: Plan, rate: dict[str, Any]) -> None:
    """Compress every image to its .uigc file, of a mask or a rate as :meth:`Codec.compress_many` takes it."""
    places = _unfinished(arguments, plan)
    jobs = _share_cores(arguments, len(places))
    codec = make_codec(arguments)
    plan.make_folder()
    work = Work(
        lambda name: image.read(files.read_image(name), reading(arguments), codec.limits.check),
        lambda images: codec.compress_many(images, **rate, batch=arguments.batch, jobs=jobs),
        lambda data: data,
    )
    _each(arguments, plan, places, work)


def decompress(arguments: argparse.Namespace, plan: Plan, output: OutputFormat) -> None:
    """Decompress every .uigc file to an image in the format asked for."""
    suffix = output.of("")
    places = _unfinished(arguments, plan)
    jobs = _share_cores(arguments, len(places))
    codec = make_codec(arguments)
    plan.make_folder()

    def read(name: str) -> bytes:
        return files.read(name, MAX_FILE)

    def encode(pixels: Pixels) -> bytes:
        return image_outputs.encode(pixels, suffix, output.quality)

    if arguments.partial:
        parts = Work(read, lambda data: wholes_or_parts(codec, data, jobs), lambda found: encode(image_of(found)))
        _each(arguments, plan, places, parts)
    else:
        wholes = Work(read, lambda data: codec.decompress_many(data, batch=arguments.batch, jobs=jobs), encode)
        _each(arguments, plan, places, wholes)


def _unfinished(arguments: argparse.Namespace, plan: Plan) -> list[Place]:
    """Return the inputs that are left to do: with ``--skip-existing``, those without an output.

    Outputs are complete or absent, so those that exist need not be looked into.
    """
    return [place for place in plan.places if not (arguments.skip_existing and _exists(place.target))]


def _exists(target: str | UigcError) -> bool:
    return not isinstance(target, UigcError) and os.path.isfile(target)


def _share_cores(arguments: argparse.Namespace, count: int) -> int:
    """Return the number of jobs, and divide the threads among them.

    On the CPU, several images on few threads each are faster than one image on all threads.
    """
    settle_provider(arguments)
    if arguments.provider != providers.DEFAULT:
        return arguments.jobs or DEFAULT_JOBS
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    jobs: int = arguments.jobs or max(1, min(cores, MAX_JOBS, count))
    if arguments.threads is None:
        arguments.threads = max(1, cores // jobs)
    return jobs


def _each(arguments: argparse.Namespace, plan: Plan, places: list[Place], work: Work[S, R]) -> None:
    """Read, process and write all files; raise at the end if some failed, with the exit code of the first."""

    def source(place: Place) -> S:
        files.check_free(unwrap(place.target), arguments.force)
        with about(place.source):
            return work.read(place.source)

    failures = Failures("the outputs of the others are complete")
    sizes: list[int] = []
    sources = (capture(partial(source, place)) for place in places)
    with ProgressLine(arguments.quiet) as progress:
        progress("files", 0, len(places))
        outcomes = work.process(sources)
        for index, place in enumerate(places):
            with about(place.source):  # for what is said of a result; a source that is read meanwhile has its own
                outcome = next(outcomes)
                size = capture(partial(_write, arguments, place, outcome, work.encode))
            if isinstance(size, UigcError):
                failures.add(size, place.source)
            elif size is not None:
                sizes.append(size)
                LOG.info("%s to %s, %d bytes", place.source, place.target, size)
            progress("files", index + 1, len(places))
        if not arguments.quiet:
            existed = len(plan.places) - len(failures) - len(sizes)
            where = f"in {plan.folder}" if plan.folder else "beside the inputs"
            left = f"; {existed} existed and were left as they are" if existed else ""
            progress.print_above(f"{len(sizes)} files, {sum(sizes)} bytes, {where}{left}")
    failures.finish(len(plan.places))


def _write(
    arguments: argparse.Namespace, place: Place, outcome: R | UigcError, encode: Callable[[R], bytes]
) -> int | None:
    """Write a result and return its size; None if somebody else has written it meanwhile, and that is as good."""
    try:
        data, target = encode(unwrap(outcome)), unwrap(place.target)
        try:
            Path(target).parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(
                f"The folder of {target} cannot be created ({error.strerror}); give another with -o."
            ) from None
        files.write(target, data, arguments.force)
    except OutputError:  # of an output that was there before its input was read, too
        if arguments.skip_existing and _exists(place.target):
            return None
        raise
    return len(data)
