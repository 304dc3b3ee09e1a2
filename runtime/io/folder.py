"""Writing a folder completely or not at all."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def complete(out: Path, replace: bool = True) -> Iterator[Path]:
    """Yield a folder to fill, which becomes ``out`` at the end, or vanishes if anything is raised before.

    ``replace``: remove what is at ``out`` then; whoever calls has checked that it may be.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    working = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    try:
        yield working
        working.chmod(0o755)
        if replace and out.exists():
            shutil.rmtree(out)
        working.rename(out)
    except BaseException:
        shutil.rmtree(working, ignore_errors=True)
        raise
