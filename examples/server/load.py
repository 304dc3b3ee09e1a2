"""Measure a server that runs: python load.py http://127.0.0.1:8000 photo.webp --json server.json

Clients send one request after another, each on a connection that is kept. For ``compress`` and ``decompress`` the
result states requests a second, p50 and p99 of those that were answered with 200, and how many had which status.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("image", type=Path)
    parser.add_argument(
        "--clients", type=int, nargs="+", default=[1, 2, 8, 32], help="numbers of clients to measure with"
    )
    parser.add_argument("--requests", type=int, default=20, help="requests of each client")
    parser.add_argument("--json", type=Path, help="file for the result")
    options = parser.parse_args()
    place, image = urlsplit(options.url).netloc, options.image.read_bytes()
    status, file = post(HTTPConnection(place, timeout=120), "/compress", image)
    if status != 200:
        raise SystemExit(f"The server answered {status}: {file.decode('utf-8', 'replace')}")
    bodies = {"compress": image, "decompress": file}
    routes = {
        route: [load(place, f"/{route}", body, clients, options.requests) for clients in options.clients]
        for route, body in bodies.items()
    }
    print(json.dumps(routes, indent=1))
    if options.json:
        write(options.json, {**machine(), "image": options.image.name, "routes": routes})


if __name__ == "__main__":
    main()
