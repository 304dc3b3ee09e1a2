"""Two charts beside each other in a PNG; needs matplotlib (the extra ``bench``)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any


@contextlib.contextmanager
def two_charts(path: Path, title: str | None = None) -> Iterator[tuple[Any, Any]]:
    """Yield the axes of both, and write the PNG when the block has drawn into them."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, both = pyplot.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    try:
        yield tuple(both)
        if title:
            figure.suptitle(title, fontsize=9)
        figure.savefig(path, dpi=110, metadata={"Software": None})
    finally:
        pyplot.close(figure)
