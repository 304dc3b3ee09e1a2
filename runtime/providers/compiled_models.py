"""Compiled models in the cache folder of this machine: the very bytes that were kept, of the very model, or none.

They are what OpenVINO compiles and what ONNX Runtime optimizes. OpenVINO has a cache of its own (``CACHE_DIR``), which
notices neither a changed byte nor other weights beside the same graph: its logits would then be wrong. Here a file is
found by everything that its content follows from, and taken only if its digest is right and nobody else could have
written it.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from uigc.runtime.bundle.graph_entry import graph_entry
from uigc.runtime.environment import cache_folder, machine_name, processor_flags, processor_name
from uigc.runtime.io.atomic import named_part
from uigc.runtime.io.atomic import replace as replace_file

FOLDER, SUFFIX = "compiled", ".model"
LIMIT = 1 << 29  # bytes of all files together; the least recently used go first
IGNORE = "UIGC_CACHE"
"""Environment variable: with the value 0, nothing is kept, and nothing that was kept is taken."""
DIGEST = hashlib.sha256().digest_size
LOG = logging.getLogger("uigc")


def _path(key: bytes) -> Path:
    return cache_folder() / FOLDER / f"{key.hex()[:32]}{SUFFIX}"


def _digest(key: bytes, model: bytes | memoryview) -> bytes:
    whole = hashlib.sha256(key)
    whole.update(model)
    return whole.digest()


def key_of(path: Path, *made_by: Any) -> bytes:
    """Return the key (32 bytes) of what a library makes of a graph: a digest of everything that this follows from.

    ``made_by``: the library, its version and its settings. The instructions of the processor are part of the key: they
    decide in which blocks the weights of a convolution lie. Raises a :class:`BundleError` for what is not a graph of
    the bundle in its folder.
    """
    entry = graph_entry(path)
    graph, machine = (entry.sha256, entry.weights_sha256), (machine_name(), processor_name(), processor_flags())
    return hashlib.sha256(json.dumps([made_by, graph, machine], sort_keys=True).encode()).digest()


def kept() -> bool:
    """Return False if nothing is to be kept, nor taken."""
    return os.environ.get(IGNORE) != "0"


def read(key: bytes) -> bytes | None:
    """Return the model that was kept under a key of 32 bytes; None if there is none, or if it is not as it was kept."""
    if not kept():
        return None
    try:
        path = _path(key)
        with path.open("rb") as file:
            if not _is_ours(os.fstat(file.fileno())):
                LOG.debug("%s is not taken: others could have written it", path)
                return None
            digest, model = file.read(DIGEST), file.read()
    except (OSError, RuntimeError):  # RuntimeError: no home folder
        return None
    if digest != _digest(key, model):
        LOG.debug("%s is not taken: it is damaged", path)
        return None
    with suppress(OSError):  # a folder that cannot be written
        os.utime(path)
    return model


def keep(path: Path, key: bytes, model: Callable[[], bytes]) -> None:
    """Keep what was made of a graph, unless its files are no longer those that the key stands for."""
    if kept() and graph_entry(path).lies_in(path.parent):
        write(key, model())


def write(key: bytes, model: bytes) -> None:
    """Keep a model under a key of 32 bytes, unless it is too large. A folder that cannot be written is no error."""
    if len(model) > LIMIT or not kept():
        return
    try:
        path = _path(key)
        _make_folder()
        _make_room(path.parent, len(model))
        path.unlink(missing_ok=True)  # whose permissions and owner the new one would take over
        replace_file(path, lambda part: _fill(part, _digest(key, model), model))
    except (OSError, RuntimeError) as error:
        LOG.debug("a compiled model cannot be kept: %s", error)


@contextmanager
def part() -> Iterator[Path]:
    """Give an empty file in the folder, removed at the end: for a library that writes its models to files alone.

    What a killed process leaves behind is removed by a later one. Raises an :class:`OSError` or a :class:`RuntimeError`
    (no home folder) if the folder cannot be written.
    """
    with named_part(_make_folder()) as file:
        yield file


def _make_folder() -> Path:
    folder = cache_folder() / FOLDER
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def _fill(part: Path, digest: bytes, model: bytes) -> None:
    part.chmod(0o600)
    with part.open("wb") as file:
        file.write(digest)
        file.write(model)


def _is_ours(found: os.stat_result) -> bool:
    """Return True for a file of this user or of the system's, which nobody else may write."""
    if not hasattr(os, "getuid"):  # Windows keeps other users out of the folder
        return True
    return found.st_uid in (0, os.getuid()) and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _make_room(folder: Path, size: int) -> None:
    """Remove the files that were not used for the longest time, until ``size`` more bytes fit."""
    files = []
    for path in folder.glob(f"*{SUFFIX}"):
        with suppress(OSError):  # another process removes, too
            found = path.stat()
            files.append((found.st_mtime, found.st_size, path))
    for _, taken, path in sorted(files, key=lambda file: file[0]):
        if sum(each for _, each, _ in files) + size <= LIMIT:
            return
        with suppress(OSError):
            path.unlink()
        files = [file for file in files if file[2] != path]
        LOG.debug("removed %s of %d bytes", path, taken)
