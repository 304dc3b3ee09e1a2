"""Reading and writing files: errors in one sentence, and no output that is half-written."""

from __future__ import annotations

import sys
from pathlib import Path

from uigc.runtime.errors import InputError, OutputError
from uigc.runtime.io import streams
from uigc.runtime.io.atomic import put

STREAM = "-"  # the name of standard input and output
LARGEST = 1 << 31  # bytes of an encoded image: 2^28 pixels with 16 bits a sample, uncompressed, and some


def read(name: str, largest: int = LARGEST) -> bytes:
    """Read a file, or standard input for ``-``; never more than ``largest`` bytes and one, however long it is."""
    try:
        if name == STREAM:
            if sys.stdin is None:
                raise InputError("Standard input is closed, and '-' reads there; give a file name.")
            return sys.stdin.buffer.read(largest + 1)
        with open(name, "rb") as file:
            return file.read(largest + 1)
    except OSError as error:
        raise InputError(f"{name} cannot be read ({error.strerror}); check the name.") from None


def read_image(name: str) -> bytes:
    """Read an encoded image; refuses one that no format needs so many bytes for."""
    data = read(name)
    if len(data) > LARGEST:
        raise InputError(f"{name} has more than {LARGEST} bytes, and an image has fewer; check the name.")
    return data


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
        raise _exists(name)


def write(name: str | Path, data: bytes, force: bool) -> None:
    """Write a file completely or not at all, or standard output for ``-``; devices and pipes are written directly."""
    try:
        if name == STREAM:
            stream = streams.results()
            if stream is None:
                raise OutputError("Standard output is closed, and '-' writes there; give a file name.")
            stream.buffer.write(data)
            stream.buffer.flush()
            return
        check_free(name, force)
        path = Path(name).resolve()  # a link stays, and its target is replaced
        if path.exists() and not path.is_file():
            path.write_bytes(data)
        else:
            put(path, data, force)
    except BrokenPipeError:
        raise
    except FileExistsError:
        raise _exists(name) from None
    except OSError as error:
        raise _unwritable(name, error) from None


def _exists(name: str | Path) -> OutputError:
    return OutputError(f"{name} exists; give --force to overwrite it, or another name.")


def _unwritable(name: str | Path, error: OSError) -> OutputError:
    where = "Standard output" if name == STREAM else str(name)
    return OutputError(f"{where} cannot be written ({error.strerror}); check the name, the folder and the disk.")
