"""Writing a file completely or not at all: a reader sees the old file or the new one, and never a part."""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

PREFIX = ".uigc-"  # of the names that files have while they are written; short, whatever the file is called
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
    part = _named_part(path.parent)
    try:
        fill(part)
        _inherit(part, path)
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def _put_unnamed(path: Path, data: bytes, force: bool) -> None:
    """Write into a file without a name, and link it to its name when it is complete (Linux)."""
    handle = os.open(path.parent, os.O_TMPFILE | os.O_RDWR, 0o666)
    folder = None
    try:
        folder = os.open(path.parent, os.O_RDONLY)
        _write(handle, data)
        name = f"{PREFIX}{secrets.token_hex(8)}" if force else path.name
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
    part = _named_part(path.parent)
    try:
        part.write_bytes(data)
        try:
            os.link(part, path)
        except FileExistsError:
            raise
        except OSError:  # a file system without hard links: take the name first, then fill it
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
            os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def _named_part(folder: Path) -> Path:
    """Create an empty file with a temporary name and the permissions that new files have here."""
    part = folder / f"{PREFIX}{secrets.token_hex(8)}.part"  # PyTorch wants a name with a suffix
    os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    return part


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
