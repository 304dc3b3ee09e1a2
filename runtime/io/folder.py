"""Writing a folder completely or not at all."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def complete(out: Path, replace: bool = True) -> Iterator[Path]:
    """Yield a folder to fill, which becomes ``out`` at the end, or vanishes if anything is raised before.

    ``replace``: what is at ``out`` then makes way, and is removed when the new one is there; whoever calls has checked
    that it may be. Of a link, the folder that it leads to is replaced.
    """
    out = Path(os.path.realpath(out))
    out.parent.mkdir(parents=True, exist_ok=True)
    working = _beside(out)
    working.mkdir()
    try:
        yield working
        if replace and out.exists():
            working.chmod(stat.S_IMODE(out.stat().st_mode))
            _exchange(working, out)
        else:
            working.rename(out)
    except BaseException:
        shutil.rmtree(working, ignore_errors=True)
        raise


def _beside(out: Path) -> Path:
    """Return a name in the same folder that nothing has."""
    return out.parent / f".{out.name}.{os.urandom(8).hex()}"


def _exchange(new: Path, out: Path) -> None:
    """Put a folder in the place of another, which is back there if that fails, and is removed if not."""
    old = _beside(out)
    out.rename(old)
    try:
        new.rename(out)
    except BaseException:
        old.rename(out)
        raise
    shutil.rmtree(old, ignore_errors=True)
