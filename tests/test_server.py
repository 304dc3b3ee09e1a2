"""The example of a server: under load, overload and hostile bodies it answers what it should, and its memory stays."""

from __future__ import annotations

import json
import random
import re
import runpy
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.support.paths import ROOT
from uigc.runtime.codec import Codec

pytest.importorskip("starlette", reason="needs Starlette")
pytest.importorskip("uvicorn", reason="needs Uvicorn")
SERVER = ROOT / "examples" / "server"
PLACES = 3
MAX_BODY = 200_000
LIMITS = ("--workers", "2", "--queue", "1", "--max-body", MAX_BODY, "--max-pixels", 1 << 16, "--body-seconds", "2")


@pytest.fixture(scope="module")
def port(tiny_path: Path) -> Iterator[int]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        number = probe.getsockname()[1]
    command = [sys.executable, SERVER / "server.py", "--bundle", tiny_path, "--port", number, *LIMITS]
    with subprocess.Popen([str(word) for word in command]) as process:
        try:
            while True:
                try:
                    assert process.poll() is None
                    status, _, body = call(number, "GET", "/health")
                    break
                except OSError:
                    time.sleep(0.1)
            assert (status, json.loads(body)["places"]) == (200, PLACES)
            PIDS[number] = process.pid
            yield number
        finally:
            process.terminate()


PIDS: dict[int, int] = {}


def call(port: int, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, dict[str, str], bytes]:
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        return response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()
    finally:
        connection.close()


def encoded(seed: int, height: int = 40, width: int = 60, kind: str = "PNG") -> bytes:
    buffer = BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def metrics(port: int) -> dict[str, float]:
    status, _, body = call(port, "GET", "/metrics")
    assert status == 200
    return {name: float(value) for name, value in re.findall(r"(?m)^(\S+) (\S+)$", body.decode())}


def test_what_is_sent_comes_back_as_by_the_codec(port: int, tiny: Codec) -> None:
    image = encoded(0)
    status, headers, file = call(port, "POST", "/compress?mask=edge_more%2Bdraw7", image)
    assert (status, headers["content-type"], file) == (200, "image/x-uigc", tiny.compress(image, "edge_more+draw7"))
    status, headers, png = call(port, "POST", "/decompress", file)
    assert (status, headers["content-type"]) == (200, "image/png")
    assert np.array_equal(np.asarray(Image.open(BytesIO(png))), tiny.decompress(file))


def test_under_load_every_answer_is_right_or_503(port: int, tiny: Codec) -> None:
    images = [encoded(seed) for seed in range(4)]
    wanted = [tiny.compress(image) for image in images]
    before = metrics(port)

    def client(number: int) -> list[int]:
        statuses = []
        for step in range(10):
            status, _, body = call(port, "POST", "/compress", images[(number + step) % 4])
            assert status == 503 or (status == 200 and body == wanted[(number + step) % 4])
            statuses.append(status)
        return statuses

    with ThreadPoolExecutor(8) as pool:
        counts = Counter(status for statuses in pool.map(client, range(8)) for status in statuses)
    assert counts.total() == 80
    assert counts[200] >= 10  # a client that nobody disturbs is always served
    after = metrics(port)
    for status, count in counts.items():
        name = f'uigc_answers_total{{route="compress",status="{status}"}}'
        assert after[name] - before.get(name, 0) == count
    assert after["uigc_places_taken"] == 0


def begun(port: int, body: bytes) -> socket.socket:
    """A request whose body is not complete, so that it holds a place."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=60)
    head = f"POST /compress HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
    connection.sendall(head.encode() + body[:10])
    return connection


def wait_for_places(port: int, taken: int) -> None:
    while json.loads(call(port, "GET", "/health")[2])["taken"] != taken:
        time.sleep(0.01)


def answer(connection: socket.socket) -> tuple[int, bytes]:
    data = b"".join(iter(lambda: connection.recv(1 << 16), b""))
    connection.close()
    return int(data.split(b" ", 2)[1]), data.partition(b"\r\n\r\n")[2]


def test_overload_is_answered_at_once(port: int, tiny: Codec) -> None:
    """All places are taken: 503 for whom comes then, health and metrics still answer, and those inside are served."""
    image = encoded(1)
    for _ in range(3):  # again, if the slow ones were sent away first on a machine that is busy
        inside = [begun(port, image) for _ in range(PLACES)]
        wait_for_places(port, PLACES)
        status, headers, body = call(port, "POST", "/compress", image)
        for connection in inside:
            connection.sendall(image[10:])
        served = [answer(connection) for connection in inside]
        if all(code == 200 for code, _ in served):
            break
    assert (status, headers["retry-after"], json.loads(body)["error"]) == (503, "1", "Overloaded")
    assert served == [(200, tiny.compress(image))] * PLACES
    wait_for_places(port, 0)


def test_bodies_that_never_end_give_their_place_back(port: int) -> None:
    inside = [begun(port, encoded(2)) for _ in range(PLACES)]
    assert [answer(connection)[0] for connection in inside] == [408] * PLACES
    gone = begun(port, encoded(2))
    gone.close()
    wait_for_places(port, 0)


def endless() -> Iterator[bytes]:
    for _ in range(1000):
        yield bytes(1000)


def hostile(tiny: Codec) -> list[tuple[str, Any, set[int], str]]:
    """Route, body, the statuses that may answer it, and the name of the error."""
    file, png = tiny.compress(encoded(3)), encoded(3)
    return [
        ("compress", b"", {422}, "InputError"),
        ("compress", random.Random(0).randbytes(5000), {422}, "InputError"),
        ("compress", png[: len(png) // 2], {422}, "InputError"),
        ("compress", encoded(4, 300, 300, "JPEG"), {413}, "TooLargeError"),
        ("compress", bytes(MAX_BODY + 1), {413}, "TooLong"),
        ("compress?mask=nonsense", png, {400}, "UsageError"),
        ("decompress", b"", {415}, "UnrecognizedFileError"),
        ("decompress", png, {415}, "UnrecognizedFileError"),
        ("decompress", file[:-1], {422}, "CorruptFileError"),
        ("decompress", file[:5] + bytes(4) + file[9:], {422}, "CorruptFileError"),
        ("decompress", bytes(MAX_BODY + 1), {413}, "TooLong"),
    ]


def test_hostile_bodies_are_refused(port: int, tiny: Codec) -> None:
    for route, body, statuses, name in hostile(tiny):
        status, _, text = call(port, "POST", f"/{route}", body)
        assert (status in statuses, json.loads(text)["error"]) == (True, name), (route, body[:20], status, text)
        assert json.loads(text)["message"].count("\n") == 0
    try:
        status, _, _ = call(port, "POST", "/compress", endless())  # without a length, in chunks
        assert status == 413
    except OSError:  # the server has answered and hung up while we were still sending
        pass
    assert call(port, "GET", "/compress")[0] == 405
    assert call(port, "POST", "/nowhere", b"")[0] == 404
    wait_for_places(port, 0)
    assert call(port, "POST", "/compress", encoded(0))[0] == 200


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="needs /proc")
def test_memory_stays(port: int, tiny: Codec) -> None:
    """Megabytes after 50 rounds are those after 250, but for what an allocator keeps."""
    file = tiny.compress(encoded(5, 200, 300))

    def resident() -> float:
        text = Path(f"/proc/{PIDS[port]}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+) kB", text)[1]) / 1024  # type: ignore[index]

    def rounds(count: int) -> None:
        for _ in range(count):
            assert call(port, "POST", "/decompress", file)[0] == 200
            assert call(port, "POST", "/decompress", file[:-1])[0] == 422
            assert call(port, "POST", "/compress", bytes(MAX_BODY + 1))[0] == 413

    rounds(50)
    before = resident()
    rounds(200)
    assert resident() - before < 20  # the bodies and images of 200 rounds have 80


def test_the_load_is_measured(port: int, tmp_path: Path) -> None:
    (tmp_path / "image.png").write_bytes(encoded(6))
    command = [sys.executable, SERVER / "load.py", f"http://127.0.0.1:{port}", "image.png"]
    options = ["--clients", "1", "4", "--requests", "5", "--json", "load.json"]
    done = subprocess.run([*command, *options], cwd=tmp_path, check=True, capture_output=True, text=True)
    assert [line.split(" | ")[:3] for line in done.stdout.splitlines()[2:]] == [
        [f"| {route}", clients, requests]
        for route in ("compress", "decompress")
        for clients, requests in (("1", "5"), ("4", "20"))
    ]
    routes = json.loads((tmp_path / "load.json").read_text())["routes"]
    for route in ("compress", "decompress"):
        assert [found["requests"] for found in routes[route]] == [5, 20]
        for found in routes[route]:
            assert sum(found["statuses"].values()) == found["requests"]
            assert set(found["statuses"]) <= {"200", "503"}
            assert 0 < found["p50_ms"] <= found["p99_ms"]


def test_the_page_states_a_load() -> None:
    result = json.loads((ROOT / "bench" / "results" / "server.json").read_text(encoding="utf-8"))
    table = runpy.run_path(str(SERVER / "load.py"))["table"](result["routes"])
    assert table in (ROOT / "docs" / "SERVERS.md").read_text(encoding="utf-8")


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="needs /proc")
def test_a_server_is_started_to_be_measured(tmp_path: Path) -> None:
    """Of its own, with the default bundle, and ended afterwards; the memory that it holds is stated."""
    (tmp_path / "image.png").write_bytes(encoded(6))
    command = [sys.executable, SERVER / "load.py", "serve", "image.png", "--clients", "1", "--requests", "2"]
    done = subprocess.run([*command, "--json", "load.json"], cwd=tmp_path, check=True, capture_output=True, text=True)
    routes = json.loads((tmp_path / "load.json").read_text())["routes"]
    for route, line in zip(("compress", "decompress"), done.stdout.splitlines()[2:], strict=True):
        (found,) = routes[route]
        assert found["statuses"] == {"200": 2}
        assert line.endswith(f"| 200: 2 | {found['resident_mb']} |")
        assert found["resident_mb"] > 50
