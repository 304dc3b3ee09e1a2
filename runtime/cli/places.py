"""Where results go: one input to a file, many into a folder or beside themselves, and folders as their trees."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from uigc.runtime.errors import InputError, OutputError, UigcError, UsageError
from uigc.runtime.io import files
from uigc.runtime.io.image_outputs import check_not_image
from uigc.runtime.io.image_sources import SUFFIXES

FILE_SUFFIX, IMAGE_SUFFIX = ".uigc", ".png"
IMAGES, FILES = SUFFIXES, (FILE_SUFFIX,)  # what is taken from folders


@dataclass(frozen=True)
class Place:
    """An input and the output of its result, or the error that stands in its place."""

    source: str
    target: str | UigcError


@dataclass(frozen=True)
class Plan:
    """All inputs of a command.

    ``many``: whether a failure of one is passed over. ``folder``: where the results lie, None for beside the inputs or
    for a single name.
    """

    places: list[Place]
    many: bool
    folder: str | None = None

    def make_folder(self) -> None:
        """Make the folder of the results."""
        if self.folder is not None:
            try:
                Path(self.folder).mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise OutputError(
                    f"The folder {self.folder} cannot be created ({error.strerror}); give another."
                ) from None


def plan(arguments: argparse.Namespace, taken: Sequence[str], suffix: str) -> Plan:
    """Return where each input goes.

    ``taken`` are the suffixes of the files that are taken from folders, ``suffix`` is that of outputs without a name.
    """
    names, output = arguments.names, arguments.output
    if "" in (*names, output):
        raise UsageError("A name is empty, and a file or a folder was expected; check where the name comes from.")
    if arguments.force and arguments.skip_existing:
        raise UsageError("--force replaces outputs that exist and --skip-existing leaves them; give one of the two.")
    if output is None and not arguments.recursive:
        source, target = _pair(names, suffix)
        return Plan([_guarded(source, target, suffix)], False)
    inputs = list(_inputs(names, arguments.recursive, taken))
    many = len(inputs) != 1 or len(names) != 1 or inputs[0].root is not None
    if output is None:
        return Plan(_distinct(inputs, None, suffix), many)
    if not many and not _is_folder(output, names[0]):
        return Plan([_guarded(names[0], output, suffix)], False)
    _check_folder(names, output, many)
    return Plan(_distinct(inputs, Path(output), suffix), many, output)


@dataclass(frozen=True)
class _Input:
    """An input; ``root`` is the folder that it was found in, None if it was named."""

    name: str
    root: Path | None = None
    error: UigcError | None = None

    def target(self, folder: Path | None, suffix: str) -> str:
        """Return the output: below ``folder`` as the input lies below its root, or beside the input."""
        path = Path(self.name)
        if folder is not None:
            path = folder / (path.name if self.root is None else path.relative_to(self.root))
        return str(path.with_suffix(suffix))


def _pair(names: list[str], suffix: str) -> tuple[str, str]:
    """Return input and output of a command without ``-o``."""
    if len(names) > 2:
        raise UsageError(f"{len(names)} names were given, and IN and OUT were expected; for many files add -o DIR/.")
    if len(names) == 2 or names[0] == files.STREAM:
        return names[0], names[-1]
    if os.path.isdir(names[0]):
        raise _folder(names[0])
    return names[0], _Input(names[0]).target(None, suffix)


def _is_folder(output: str, source: str) -> bool:
    """Return whether the output of one input is a folder: an existing one, one with a slash, or one without a suffix.

    A name without a suffix is a folder, so that ``*.png -o FILES`` does the same with one image as with two.
    """
    if output == files.STREAM:
        return False
    if output.endswith(("/", os.sep)) or os.path.isdir(output):
        return True
    return not os.path.lexists(output) and source != files.STREAM and Path(output).suffix == ""


def _check_folder(names: list[str], output: str, many: bool) -> None:
    """Refuse the name of a file for the folder of many results."""
    if files.STREAM in names:
        raise UsageError("Standard input has no name for its output in a folder; give IN and OUT instead of -o.")
    is_file = Path(output).suffix.lower() in (FILE_SUFFIX, *SUFFIXES) and not output.endswith(("/", os.sep))
    if output == files.STREAM or (many and is_file and not os.path.isdir(output)):
        raise UsageError(f"-o {output} holds one result, and there may be several; give a folder, as in -o DIR/.")


def _inputs(names: list[str], recursive: bool, taken: Sequence[str]) -> Iterator[_Input]:
    """Yield the inputs that are named, and those in the folders that are named."""
    for name in names:
        if name == files.STREAM or not os.path.isdir(name):
            yield _Input(name)
        elif recursive:
            yield from _below(Path(name), taken)
        else:
            yield _Input(name, error=_folder(name))


def _folder(name: str) -> InputError:
    return InputError(f"{name or '.'} is a folder, and a file was expected; add --recursive to take the files in it.")


def _below(folder: Path, taken: Sequence[str]) -> Iterator[_Input]:
    """Yield the files of a tree that have one of the suffixes, in a stable order, and what of it cannot be read."""
    found: list[_Input] = []

    def unreadable(error: OSError) -> None:
        text = f"The folder {error.filename} cannot be read ({error.strerror}); check its permissions."
        found.append(_Input(str(error.filename), folder, InputError(text)))

    for root, folders, names in os.walk(folder, onerror=unreadable):
        folders.sort()
        for path in (Path(root) / name for name in sorted(names)):
            # Pipes and devices are no files, and waiting for one would be for ever; a dead link is an error later on.
            if path.suffix.lower() in taken and (path.is_file() or not path.exists()):
                found.append(_Input(str(path), folder))
    if not found:
        what = "image" if taken == SUFFIXES else f"{taken[0]} file"
        error = InputError(f"There is no {what} in {folder}, going by their suffixes; give a folder that has some.")
        found.append(_Input(str(folder), folder, error))
    yield from found


def _distinct(inputs: list[_Input], folder: Path | None, suffix: str) -> list[Place]:
    """Return each input with its output, or with an error if an earlier input has the same output.

    An input that was named before, relative to whatever folder, is left out.
    """
    first: dict[str, str] = {}
    places: list[Place] = []
    for each in inputs:
        if each.error is not None:
            places.append(Place(each.name, each.error))
            continue
        target = each.target(folder, suffix)
        other = first.get(os.path.abspath(target))
        if other is None:
            first[os.path.abspath(target)] = each.name
            places.append(_guarded(each.name, target, suffix))
        elif os.path.abspath(other) != os.path.abspath(each.name):
            clash = f"{each.name} would be written to {target}, as {other} is; rename one, or use two folders."
            places.append(Place(each.name, OutputError(clash)))
    return places


def _guarded(source: str, target: str, suffix: str) -> Place:
    """Return a place; its target is an error if a photograph or the input itself would be overwritten."""
    try:
        if suffix == FILE_SUFFIX:
            check_not_image(target)
        if files.STREAM not in (source, target) and os.path.exists(target) and os.path.samefile(source, target):
            return Place(source, OutputError(f"{target} is the input as well as the output; give another output."))
    except UigcError as error:
        return Place(source, error)
    except OSError:
        pass  # of an input that does not exist: reading it says so
    return Place(source, target)
