"""Writing a file completely or not at all: a reader sees the old file or the new one, and never a part."""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

PREFIX = ".uigc-"  # of the names that files have while they are written; short, whatever the file is called
SUFFIX = ".part"  # of those that are not complete; PyTorch wants a name with a suffix
YOUNGEST = 60  # seconds after which an unlocked one is taken for left behind
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}  # errors that another way of writing would meet, too


def put(path: Path, data: bytes, force: bool) -> None:
    """Write a file; raises a :class:`FileExistsError` if there is one already, unless ``force``.

    Two writers of one new name cannot both succeed. With ``force``, a file that is replaced hands its permissions, and
    where the system lets us its owner, to the new one. What is written has no name until it is complete, where the
    system can do that, so that not even a killed process leaves anything behind.
    """
    try:
        _put_unnamed(path, data, force)
    except FileExistsError:
        raise
    except (AttributeError, OSError) as error:  # no O_TMPFILE in this system, or not in this file system
        if getattr(error, "errno", None) in _FULL:
            raise
        _put_named(path, data, force)


def replace(path: Path, fill: Callable[[Path], object]) -> None:
    """Let ``fill`` write a temporary file beside ``path``, then rename it to ``path``."""
    with named_part(path.parent) as part:
        fill(part)
        _inherit(part, path)
        os.replace(part, path)


def _put_unnamed(path: Path, data: bytes, force: bool) -> None:
    """Write into a file without a name, and link it to its name when it is complete (Linux)."""
    handle = os.open(path.parent, os.O_TMPFILE | os.O_RDWR, 0o666)
    folder = None
    try:
        folder = os.open(path.parent, os.O_RDONLY)
        _write(handle, data)
        name = f"{PREFIX}{os.urandom(8).hex()}" if force else path.name
        os.link(f"/proc/self/fd/{handle}", name, dst_dir_fd=folder, follow_symlinks=True)
        if force:
            part = path.parent / name
            try:
                _inherit(part, path)
                os.replace(part, path)
            except BaseException:
                part.unlink(missing_ok=True)
                raise
    finally:
        os.close(handle)
        if folder is not None:
            os.close(folder)


def _put_named(path: Path, data: bytes, force: bool) -> None:
    """Write into a file with a temporary name, everywhere."""
    if force:
        replace(path, lambda part: part.write_bytes(data))
        return
    with named_part(path.parent) as part:
        part.write_bytes(data)
        try:
            os.link(part, path)
        except FileExistsError:
            raise
        except OSError:  # a file system without hard links: take the name first, then fill it
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
            os.replace(part, path)


@contextmanager
def named_part(folder: Path) -> Iterator[Path]:
    """Create an empty file with a temporary name and the permissions that new files have here; removed at the end.

    It is locked as long as it is needed, so that others know those that a killed process left behind.
    """
    _remove_left_parts(folder)
    part = folder / f"{PREFIX}{os.urandom(8).hex()}{SUFFIX}"
    handle = os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
    try:
        if fcntl is None:  # Windows does not rename a file that is open
            os.close(handle)
        else:
            with suppress(OSError):  # a file system without locks
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield part
    finally:
        part.unlink(missing_ok=True)
        if fcntl is not None:
            os.close(handle)


@cache
def _remove_left_parts(folder: Path) -> None:
    """Remove files that killed processes left in a folder while they wrote; looked for once in a process."""
    if fcntl is None:
        return
    for part in folder.glob(f"{PREFIX}*{SUFFIX}"):
        with suppress(OSError):
            if part.stat().st_mtime > time.time() - YOUNGEST:
                continue
            handle = os.open(part, os.O_WRONLY)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)  # an error while its writer lives
                part.unlink()
            finally:
                os.close(handle)


def _write(handle: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(handle, view) :]


def _inherit(part: Path, path: Path) -> None:
    """Give a new file the permissions and the owner of the one that it replaces, if there is one."""
    try:
        old = path.stat()
    except FileNotFoundError:
        return
    part.chmod(stat.S_IMODE(old.st_mode))
    if hasattr(os, "chown"):
        with suppress(OSError):
            os.chown(part, old.st_uid, old.st_gid)
