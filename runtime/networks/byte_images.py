"""The pixel networks of earlier bundles, whose images are planes of floats, as graphs of images in bytes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uigc.runtime.format.bitstream import PATCH
from uigc.runtime.networks.outputs import planes_of
from uigc.runtime.providers import Graph


class _Around(Graph):
    """A graph whose input or output is another; its device is that of the graph inside."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph

    def synchronize(self) -> None:
        self._graph.synchronize()

    def timer(self) -> Callable[[], int] | None:
        return self._graph.timer()

    def close(self) -> None:
        self._graph.close()


class _Encoder(_Around):
    """Images uint8 (batch, H, W, 3) to tokens, by a graph that takes float32 (batch, 3, H, W) in [0, 1]."""

    def __call__(self, value: NDArray[Any]) -> NDArray[Any]:
        planes = np.ascontiguousarray(value.transpose(0, 3, 1, 2), dtype=np.float32)
        planes /= np.float32(255)
        return self._graph(planes)


class _Decoder(_Around):
    """Tokens to images uint8 (batch, H, W, 3), by a graph that returns float32 (batch, 3, H, W) in [0, 1]."""

    def __call__(self, value: NDArray[Any]) -> NDArray[Any]:
        count, height, width = value.shape
        planes = planes_of(self._graph(value), (count, 3, height * PATCH, width * PATCH))
        scaled = np.clip(planes, 0, 1)
        scaled *= np.float32(255)
        np.rint(scaled, out=scaled)
        return np.ascontiguousarray(scaled.transpose(0, 2, 3, 1), dtype=np.uint8)


def in_bytes(name: str, graph: Graph, already: bool) -> Graph:
    """Return ``encoder`` or ``decoder`` of a bundle of version 2 as a graph of bytes, and any other graph as it is.

    ``already``: whether the images of the bundle's graphs are bytes.
    """
    kinds = {"encoder": _Encoder, "decoder": _Decoder}
    return graph if already or name not in kinds else kinds[name](graph)
