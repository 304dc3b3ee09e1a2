"""Decodes again and again for ``uigc.bench.host``. ``peer.py`` runs this file with any interpreter that has a uigc.

Arguments: a file of raw samples uint8, height, width, threads, mask and, if it is not the default one, the bundle. It
prints one line of JSON with the prior and the bytes of the file; after that, for every line that it reads, it decodes
the file and prints milliseconds of the processor, in this thread, inside the graphs and outside of them. It decodes
five times more with graphs that only hand out what they returned, as if another device had computed it, and prints the
least that is outside then: the host's part of a decode whose graphs leave the caches of the host's processor alone.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from uigc.runtime.codec import Codec
from uigc.runtime.providers.base import Graph
from uigc.runtime.providers.onnx_runtime import OnnxRuntime

REPLAYS = 5  # of a decode whose graphs do not run

inside = 0  # nanoseconds of this decode that belong to graphs
replaying = False


class Measured(Graph):
    """A graph whose time is taken, and that can hand out its outputs again."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._kept: dict[bytes, Any] = {}  # by the bytes of the input

    def __call__(self, value: Any) -> Any:
        global inside
        begun = time.thread_time_ns()
        if replaying:
            output = self._kept[value.tobytes()].copy()
        else:
            output = self._graph(value)
            self._kept[value.tobytes()] = output.copy()
        inside += time.thread_time_ns() - begun
        return output


def _decoded(codec: Codec, data: bytes) -> tuple[float, float]:
    """Decode, and return the milliseconds inside the graphs and outside of them."""
    global inside
    inside, begun = 0, time.thread_time_ns()
    codec.decompress(data)
    whole = time.thread_time_ns() - begun
    return inside / 1e6, (whole - inside) / 1e6


def main(path: str, height: str, width: str, threads: str, mask: str, *bundle: str) -> None:
    global replaying
    load = OnnxRuntime.load
    OnnxRuntime.load = lambda self, path, options: Measured(load(self, path, options))  # type: ignore[method-assign]
    pixels = np.frombuffer(Path(path).read_bytes(), np.uint8).reshape(int(height), int(width), 3)
    codec = Codec(*bundle, threads=int(threads))
    data = codec.compress(pixels, mask)
    print(json.dumps({"prior": codec.bundle.prior_id.hex(), "bytes": len(data)}), flush=True)
    for _ in sys.stdin:
        replaying = False
        graphs, host = _decoded(codec, data)
        replaying = True
        replayed = min(_decoded(codec, data)[1] for _ in range(REPLAYS))
        print(json.dumps({"graphs_ms": graphs, "host_ms": host, "replayed_ms": replayed}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
