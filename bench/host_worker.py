"""Decodes a file again and again for ``uigc.bench.host``, which runs it in any environment that has a version of uigc.

Its arguments are the file and, if it is not the default one, the bundle. For each line on standard input it decodes
once, and answers with a line of milliseconds: of the processor, in this thread, inside the graphs and outside of them.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

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


def main(arguments: list[str]) -> None:
    global inside
    load = OnnxRuntime.load
    OnnxRuntime.load = lambda self, path, options: Measured(load(self, path, options))  # type: ignore[method-assign]
    data = Path(arguments[0]).read_bytes()
    codec = Codec(*arguments[1:], threads=1)
    for _ in sys.stdin:
        inside, begun = 0, time.thread_time_ns()
        codec.decompress(data)
        whole = time.thread_time_ns() - begun
        print(json.dumps({"graphs_ms": inside / 1e6, "host_ms": (whole - inside) / 1e6}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
