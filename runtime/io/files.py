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
    try:
        exists, is_folder = Path(name).exists(), Path(name).is_dir()
    except OSError as error:
        raise _unwritable(name, error) from None
    if name == STREAM:
        return
    if is_folder:
        raise OutputError(f"{name} is a folder, and a file name was expected; give one.")
    if exists and not force:
        raise OutputError(f"{name} exists; give --force to overwrite it, or another name.")


def write(name: str | Path, data: bytes, force: bool) -> None:
    """Write a file whole or not at all, or to standard output for ``-``; devices and pipes are written directly."""
    try:
        if name == STREAM:
            if sys.stdout is None:
                raise OutputError("Standard output is closed, and '-' writes there; give a file name.")
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
            return
        check_free(name, force)
        path = Path(name).resolve()  # a link stays, and what it points to is replaced
        if path.exists() and not path.is_file():
            path.write_bytes(data)
        else:
            replace(path, lambda part: part.write_bytes(data))
    except BrokenPipeError:
        raise
    except OSError as error:
        raise _unwritable(name, error) from None


def _unwritable(name: str | Path, error: OSError) -> OutputError:
    where = "Standard output" if name == STREAM else str(name)
    return OutputError(f"{where} cannot be written ({error.strerror}); check the name, the folder and the disk.")


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
