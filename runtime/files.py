"""Files in and out: errors in one sentence, and outputs that are whole or not there."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from uigc.runtime.errors import InputError, OutputError

STREAM = "-"


def read(name: str) -> bytes:
    """All of a file, or of standard input for ``-``."""
    if name == STREAM:
        return sys.stdin.buffer.read()
    try:
        return Path(name).read_bytes()
    except OSError as error:
        raise InputError(f"{name} cannot be read ({error.strerror}); check the name.") from None


def check_free(name: str | Path, force: bool) -> None:
    """Refuse an output that exists; called before any work is done, and again when it is written."""
    if name != STREAM and Path(name).is_dir():
        raise OutputError(f"{name} is a folder, and a file name was expected; give one.")
    if name != STREAM and Path(name).exists() and not force:
        raise OutputError(f"{name} exists; give --force to overwrite it, or another name.")


def write(name: str | Path, data: bytes, force: bool) -> None:
    """Write a file whole or not at all, or to standard output for ``-``."""
    if name == STREAM:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        return
    check_free(name, force)
    try:
        replace(Path(name), lambda part: part.write_bytes(data))
    except OSError as error:
        raise OutputError(f"{name} cannot be written ({error.strerror}); check the folder.") from None


def replace(path: Path, fill: Callable[[Path], object]) -> None:
    """Let ``fill`` write a temporary file beside ``path`` and rename it: a reader sees all or nothing."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    os.close(handle)
    part = Path(name)
    try:
        fill(part)
        part.chmod(0o666 & ~_umask())  # mkstemp makes files that only their owner may read
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
