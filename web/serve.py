#!/usr/bin/env python3
"""Serve the page in this folder on this machine: python web/serve.py [--bundle DIR] [--port N] [--no-isolation].

The headers COOP and COEP isolate the page, without which browsers give WebAssembly one thread only. What shrinks is
sent compressed. A site of one's own needs the same two headers from its server, and no other part of this script.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import os
from functools import lru_cache
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, ClassVar
from urllib.parse import unquote, urlsplit

HERE = Path(__file__).resolve().parent
SAMPLE = HERE.parent / "tests" / "golden" / "coffee-edge.uigc"
ISOLATION = {"Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Embedder-Policy": "require-corp"}
TYPES = {".js": "text/javascript", ".mjs": "text/javascript", ".wasm": "application/wasm", ".uigc": "image/x-uigc"}
COMPRESSED = {*TYPES, ".html", ".css", ".json", ".onnx", ".safetensors"} - {".uigc"}


class Server(ThreadingHTTPServer):
    """Serves this folder, a bundle as ``bundle/``, and a sample."""

    daemon_threads = True

    def __init__(self, port: int, bundle: Path, isolated: bool) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.bundle, self.headers = bundle, ISOLATION if isolated else {}


class Handler(SimpleHTTPRequestHandler):
    """A request: files as they are, or compressed for those who take that."""

    server: Server
    extensions_map: ClassVar[dict[str, str]] = {**SimpleHTTPRequestHandler.extensions_map, **TYPES}

    def translate_path(self, path: str) -> str:
        """Return the file of an address; none is outside of the two folders."""
        parts = [part for part in unquote(urlsplit(path).path).split("/") if part]
        if any(part.startswith(".") or os.sep in part or "\0" in part for part in parts):
            return str(HERE / "no such file")
        if parts == ["sample.uigc"]:
            return str(SAMPLE)
        if parts[:1] == ["bundle"]:
            return str(self.server.bundle.joinpath(*parts[1:]))
        return str(HERE.joinpath(*parts))

    def send_head(self) -> BinaryIO | None:
        """Send the head of an answer and return its body."""
        path = Path(self.translate_path(self.path))
        compress = path.suffix in COMPRESSED and "gzip" in self.headers.get("Accept-Encoding", "")
        if not compress or not path.is_file():
            return super().send_head()  # type: ignore[return-value]
        body = compressed(path, path.stat().st_mtime_ns)
        self.send_response(200)
        self.send_header("Content-Type", self.guess_type(str(path)))
        self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        return BytesIO(body)

    def end_headers(self) -> None:
        """Add what every answer has."""
        for name, value in self.server.headers.items():
            self.send_header(name, value)
        self.send_header("Cache-Control", "no-cache")
        self.send_header("X-Content-Type-Options", "nosniff")
        super().end_headers()

    def list_directory(self, path: str | os.PathLike[str]) -> None:
        """Show no listings."""
        self.send_error(404)

    def log_message(self, format: str, *arguments: object) -> None:
        """Keep the terminal quiet."""


@lru_cache(maxsize=64)
def compressed(path: Path, changed: int) -> bytes:
    """Return a file in gzip; ``changed``: its time, so that an edited file is compressed anew."""
    return gzip.compress(path.read_bytes(), 6, mtime=0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", type=Path, default=HERE / "bundle", help="what 'uigc export --decoder-only' wrote")
    parser.add_argument("--port", type=int, default=8000, help="0 for any that is free")
    parser.add_argument("--no-isolation", action="store_true", help="without COOP and COEP, and so with one thread")
    arguments = parser.parse_args()
    server = Server(arguments.port, arguments.bundle.resolve(), not arguments.no_isolation)
    print(f"http://127.0.0.1:{server.server_port}/", flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        server.serve_forever()


if __name__ == "__main__":
    main()
