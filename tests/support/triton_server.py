"""Triton's own server, from the wheel of nvidia-pytriton, with a model repository of ours; or a skip where it is not.

It lives in an environment of its own, since it pins numpy, made with the system's Python, whose library the backend
embeds: ``pip install '.[cpu]' nvidia-pytriton``. ``UIGC_TRITON_PYTHON`` names the Python of that environment.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

PYTHON = os.environ.get("UIGC_TRITON_PYTHON", sys.executable)
FIND = """
import importlib.util, json, sys, sysconfig
found = {name: importlib.util.find_spec(name) for name in ("pytriton", "uigc", "onnxruntime")}
package = found["pytriton"] and found["pytriton"].submodule_search_locations[0]
print(json.dumps([[name for name, spec in found.items() if spec is None], sys.version_info[:2],
                  package, sysconfig.get_path("purelib")]))
"""


@dataclass(frozen=True)
class Server:
    """A server that is ready, on a port of this machine."""

    port: int

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Return the status of an answer and what it says, read as JSON if there is anything."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=120)
        connection.request(method, path, None if body is None else json.dumps(body))
        response = connection.getresponse()
        data = response.read()
        connection.close()
        return response.status, json.loads(data) if data else None


@contextmanager
def serve(repository: Path, model: str, work: Path) -> Iterator[Server]:
    """Run the server with one model of a repository, in the empty folder ``work``, until the block ends."""
    command, environment = _command(work)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = {
        "model-repository": repository, "model-control-mode": "explicit", "load-model": model, "http-port": port,
        "http-address": "127.0.0.1", "allow-grpc": "false", "allow-metrics": "false", "exit-on-error": "true",
    }  # fmt: skip
    words = [*command, *(f"--{name}={value}" for name, value in options.items())]
    log = work / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(words, env=environment, stdout=output, stderr=subprocess.STDOUT)
        try:
            server = Server(port)
            _wait(process, server, log)
            yield server
        finally:
            process.terminate()
            process.wait()


def _command(work: Path) -> tuple[list[str], dict[str, str]]:
    """Return the start of the server's command and its environment, or skip."""
    done = subprocess.run([PYTHON, "-c", FIND], capture_output=True, text=True, cwd=work)
    missing, version, package, packages = json.loads(done.stdout) if done.returncode == 0 else (["Python"], (), "", "")
    if missing:
        pytest.skip(f"{PYTHON} has no {' and no '.join(missing)} (UIGC_TRITON_PYTHON names one that has)")
    root = Path(package) / "tritonserver"
    shutil.copytree(root / "backends", work / "backends")
    stub = work / "backends" / "python" / "triton_python_backend_stub"
    shutil.copy(root / "python_backend_stubs" / ".".join(map(str, version)) / stub.name, stub)
    environment = os.environ | {
        "PATH": f"{Path(PYTHON).parent}:{os.environ['PATH']}",
        "PYTHONPATH": packages,  # the stub embeds Python, which knows nothing of the virtual environment
        "LD_LIBRARY_PATH": str(Path(package).parent / "nvidia_pytriton.libs"),
    }
    return [str(root / "bin" / "tritonserver"), f"--backend-directory={work / 'backends'}"], environment


def _wait(process: subprocess.Popen[bytes], server: Server, log: Path) -> None:
    """Wait until the server is ready; one that hangs is given up after some minutes."""
    for _ in range(3000):
        if process.poll() is not None:
            break
        try:
            if server.ask("GET", "/v2/health/ready")[0] == 200:
                return
        except ConnectionError:
            pass
        time.sleep(0.1)
    raise AssertionError(
        f"The server is not ready (exit code {process.returncode}): {log.read_text(errors='replace')[-4000:]}"
    )
