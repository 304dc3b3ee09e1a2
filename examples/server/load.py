"""Measure a server: python load.py http://127.0.0.1:8000 photo.webp --json server.json; or, with the word ``serve`` for
the address, one that is started for it on this machine, whose memory is then measured as well.

Clients send one request after another, each on a connection that is kept. For ``compress`` and ``decompress`` the
result states requests a second, p50 and p99 of those that were answered with 200, and how many had which status; it is
printed as a table. Whatever else the machine does counts, so the file has its load average from before, too.
"""

from __future__ import annotations

import argparse
import os
import socket
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from uigc.bench.result import machine, write


def post(connection: HTTPConnection, path: str, body: bytes) -> tuple[int, bytes]:
    connection.request("POST", path, body)
    response = connection.getresponse()
    return response.status, response.read()


def client(place: str, path: str, body: bytes, requests: int) -> list[tuple[int, float]]:
    """Send requests; return the status and the seconds of each."""
    connection, found = HTTPConnection(place, timeout=120), []
    for _ in range(requests):
        begin = time.perf_counter()
        status, _ = post(connection, path, body)
        found.append((status, time.perf_counter() - begin))
    connection.close()
    return found


def load(place: str, path: str, body: bytes, clients: int, requests: int) -> dict[str, Any]:
    """Let clients send requests, all at a time; return the figures."""
    begin = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        futures = [pool.submit(client, place, path, body, requests) for _ in range(clients)]
        found = [each for future in futures for each in future.result()]
    wall = time.perf_counter() - begin
    served = sorted(seconds for status, seconds in found if status == 200)
    parts = statistics.quantiles(served, n=100, method="inclusive") if len(served) > 1 else []
    return {
        "clients": clients,
        "requests": len(found),
        "statuses": dict(sorted(Counter(str(status) for status, _ in found).items())),
        "served_per_second": round(len(served) / wall, 2),
        "p50_ms": round(1e3 * parts[49], 1) if parts else None,
        "p99_ms": round(1e3 * parts[98], 1) if parts else None,
    }


@contextmanager
def served(url: str) -> Iterator[tuple[str, int | None]]:
    """Give the place of a server, and the process if it is started here, for the word ``serve``."""
    if url != "serve":
        yield urlsplit(url).netloc, None
        return
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen([sys.executable, Path(__file__).with_name("server.py"), "--port", str(port)])
    try:
        place = f"127.0.0.1:{port}"
        while not healthy(place):
            if process.poll() is not None:
                raise SystemExit(f"The server ended with {process.returncode} before it served.")
            time.sleep(0.1)
        yield place, process.pid
    finally:
        process.terminate()
        process.wait()


def healthy(place: str) -> bool:
    connection = HTTPConnection(place, timeout=120)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except ConnectionError:
        return False
    finally:
        connection.close()


def memory(process: int | None) -> dict[str, int]:
    """Return the megabytes that a process holds, where the system says so."""
    status = Path(f"/proc/{process}/status")
    if process is None or not status.is_file():
        return {}
    return {"resident_mb": next(int(line.split()[1]) // 1024 for line in status.open() if line.startswith("VmRSS:"))}


def measure(place: str, process: int | None, options: argparse.Namespace) -> dict[str, Any]:
    """Return the figures of both routes for every number of clients."""
    image = options.image.read_bytes()
    status, file = post(HTTPConnection(place, timeout=120), "/compress", image)
    if status != 200:
        raise SystemExit(f"The server answered {status}: {file.decode('utf-8', 'replace')}")
    bodies = {"compress": image, "decompress": file}
    return {
        route: [
            load(place, f"/{route}", body, clients, options.requests) | memory(process) for clients in options.clients
        ]
        for route, body in bodies.items()
    }


def table(routes: dict[str, Any]) -> str:
    """Return the figures as a table of a page."""
    lines = [
        "| route | clients | requests | answered a second | p50, ms | p99, ms | statuses | memory, MB |",
        "|---" * 8 + "|",
    ]
    for route, rows in routes.items():
        for row in rows:
            statuses = ", ".join(f"{status}: {count}" for status, count in row["statuses"].items())
            figures = row["clients"], row["requests"], row["served_per_second"], row["p50_ms"], row["p99_ms"]
            lines.append("| " + " | ".join(map(str, (route, *figures, statuses, row.get("resident_mb", "")))) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", help="address of a server that runs, or the word 'serve'")
    parser.add_argument("image", type=Path)
    parser.add_argument(
        "--clients", type=int, nargs="+", default=[1, 2, 8, 32], help="numbers of clients to measure with"
    )
    parser.add_argument("--requests", type=int, default=20, help="requests of each client")
    parser.add_argument("--json", type=Path, help="file for the result")
    options = parser.parse_args()
    before = {"load_average": round(os.getloadavg()[0], 1)} if hasattr(os, "getloadavg") else {}
    with served(options.url) as (place, process):
        routes = measure(place, process, options)
    print(table(routes))
    if options.json:
        write(options.json, {**machine(), **before, "image": options.image.name, "routes": routes})


if __name__ == "__main__":
    main()
