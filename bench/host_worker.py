"""Decodes again and again for ``uigc.bench.host``. ``peer.py`` runs this file with any interpreter that has a uigc.

Arguments: a file of raw samples uint8, height, width, threads, mask and, if it is not the default one, the bundle. It
prints one line of JSON with the prior and the bytes of the file; after that, for every line that it reads, it decodes
the file and prints milliseconds: of the processor, in this thread, inside the graphs and outside of them.
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

inside = 0  # nanoseconds of this decode that belong to graphs


class Measured(Graph):
    """A graph whose time is taken."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph

    def __call__(self, value: Any) -> Any:
        global inside
        begun = time.thread_time_ns()
        output = self._graph(value)
        inside += time.thread_time_ns() - begun
        return output


def main(path: str, height: str, width: str, threads: str, mask: str, *bundle: str) -> None:
    global inside
    load = OnnxRuntime.load
    OnnxRuntime.load = lambda self, path, options: Measured(load(self, path, options))  # type: ignore[method-assign]
    pixels = np.frombuffer(Path(path).read_bytes(), np.uint8).reshape(int(height), int(width), 3)
    codec = Codec(*bundle, threads=int(threads))
    data = codec.compress(pixels, mask)
    print(json.dumps({"prior": codec.bundle.prior_id.hex(), "bytes": len(data)}), flush=True)
    for _ in sys.stdin:
        inside, begun = 0, time.thread_time_ns()
        codec.decompress(data)
        whole = time.thread_time_ns() - begun
        print(json.dumps({"graphs_ms": inside / 1e6, "host_ms": (whole - inside) / 1e6}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
