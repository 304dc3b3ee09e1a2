"""``uigc compress -o DIR`` and ``uigc decompress -o DIR``: many files into a folder; a failure stops no other file."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TypeVar

from uigc.runtime import providers
from uigc.runtime.cli.arguments import make_codec, reading
from uigc.runtime.cli.progress_line import ProgressLine
from uigc.runtime.codec import DEFAULT_JOBS
from uigc.runtime.errors import OutputError, UigcError, UsageError
from uigc.runtime.format.bitstream import MAX_FILE
from uigc.runtime.format.mask import Mask
from uigc.runtime.io import files, image
from uigc.runtime.outcomes import capture, unwrap

MAX_JOBS = 8  # by default; memory grows with the number of jobs

S = TypeVar("S")
R = TypeVar("R")


def compress(arguments: argparse.Namespace, mask: Mask) -> None:
    """Compress every image to DIR/STEM.uigc."""
    jobs = _share_cores(arguments)
    codec = make_codec(arguments)
    _each(
        arguments,
        ".uigc",
        lambda name: image.read(files.read_image(name), reading(arguments), codec.limits.check),
        lambda images: codec.compress_many(images, mask, batch=arguments.batch, jobs=jobs),
        lambda data: data,
    )


def decompress(arguments: argparse.Namespace) -> None:
    """Decompress every .uigc file to DIR/STEM plus the suffix asked for."""
    image.check_suffix(arguments.suffix)
    jobs = _share_cores(arguments)
    codec = make_codec(arguments)
    _each(
        arguments,
        arguments.suffix,
        lambda name: files.read(name, MAX_FILE),
        lambda data: codec.decompress_many(data, batch=arguments.batch, jobs=jobs),
        lambda pixels: image.encode(pixels, arguments.suffix),
    )


def _share_cores(arguments: argparse.Namespace) -> int:
    """Return the number of jobs, and divide the threads among them.

    On the CPU, several images on few threads each are faster than one image on all threads.
    """
    if arguments.provider != providers.DEFAULT:
        return arguments.jobs or DEFAULT_JOBS
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    jobs: int = arguments.jobs or min(cores, MAX_JOBS, len(arguments.names))
    arguments.threads = arguments.threads or max(1, cores // jobs)
    return jobs


def _each(
    arguments: argparse.Namespace,
    suffix: str,
    read: Callable[[str], S],
    work: Callable[[Iterator[S | UigcError]], Iterator[R | UigcError]],
    encode: Callable[[R], bytes],
) -> None:
    """Read, process and write all files; raise at the end if some failed, with the exit code of the first."""
    targets = _targets(arguments.names, Path(arguments.output), suffix)

    def source(name: str, target: Path | UigcError) -> S:
        files.check_free(unwrap(target), arguments.force)
        return read(name)

    def write(target: Path | UigcError, outcome: R | UigcError) -> int:
        data = encode(unwrap(outcome))
        files.write(unwrap(target), data, arguments.force)
        return len(data)

    failures: list[UigcError] = []
    written, total = 0, len(targets)
    sources = (capture(partial(source, *pair)) for pair in targets)
    with ProgressLine(arguments.quiet) as progress:
        progress("files", 0, total)
        for index, ((name, target), outcome) in enumerate(zip(targets, work(sources), strict=True)):
            size = capture(partial(write, target, outcome))
            if isinstance(size, UigcError):
                failures.append(size)
                progress.print_above(f"uigc: {size}" if name in str(size) else f"uigc: {name}: {size}")
            else:
                written += size
            progress("files", index + 1, total)
        if not arguments.quiet:
            progress.print_above(f"{total - len(failures)} files, {written} bytes, in {arguments.output}")
    if failures:
        error = UigcError(f"{len(failures)} of {total} files failed, for the reasons above; the others were written.")
        error.exit_code = failures[0].exit_code
        raise error


def _targets(names: list[str], folder: Path, suffix: str) -> list[tuple[str, Path | UigcError]]:
    """Return each input with its output, or with an error if an earlier input has the same output."""
    if files.STREAM in names:
        raise UsageError("Standard input has no name for its output in a folder; give IN and OUT instead of -o.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"The folder {folder} cannot be created ({error.strerror}); give another.") from None
    first: dict[Path, str] = {}
    targets: list[tuple[str, Path | UigcError]] = []
    for name in names:
        target = folder / f"{Path(name).stem}{suffix}"
        other = first.setdefault(target, name)
        clash = OutputError(f"{name} would be written to {target}, as {other} is; rename one, or use two folders.")
        targets.append((name, target if name == other else clash))
    return targets
