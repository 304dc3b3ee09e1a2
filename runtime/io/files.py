"""Reading and writing files: errors in one sentence, and no output that is half-written."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from uigc.runtime.errors import InputError, OutputError

STREAM = "-"  # the name of standard input and output


def read(name: str) -> bytes:
    """Read a file, or standard input for ``-``."""
    if name == STREAM:
        return sys.stdin.buffer.read()
    try:
        return Path(name).read_bytes()
    except OSError as error:
        raise InputError(f"{name} cannot be read ({error.strerror}); check the name.") from None


def check_free(name: str | Path, force: bool) -> None:
    """Refuse an output that exists; called before the work begins, and again when the output is written."""
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
    """Write a file completely or not at all, or standard output for ``-``; devices and pipes are written directly."""
    try:
        if name == STREAM:
            if sys.stdout is None:
                raise OutputError("Standard output is closed, and '-' writes there; give a file name.")
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
            return
        check_free(name, force)
        path = Path(name).resolve()  # a link stays, and its target is replaced
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
    """Let ``fill`` write a temporary file beside ``path``, then rename it, so that a reader sees all or nothing."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    os.close(handle)
    part = Path(name)
    try:
        fill(part)
        part.chmod(0o666 & ~_umask())  # mkstemp creates files that only their owner may read
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def _umask() -> int:
    """Return the umask of this process, which can only be read by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
