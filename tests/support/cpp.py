"""The C++ program ``uigc-decode``, whose networks live in this process, at the other end of a pipe."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray

from tests.support.paths import ROOT
from uigc.fuzz.agreement import SANITIZERS, WARNINGS

COMPILER = shutil.which("g++") or shutil.which("clang++")
needs_compiler = pytest.mark.skipif(COMPILER is None, reason="needs a C++ compiler")
TYPES = {"float32": 1, "float64": 11, "int32": 6, "int64": 7}
"""ONNX's numbers of the types of elements."""
Change = Callable[[str, NDArray[Any]], NDArray[Any] | None]
"""Takes the name of an output and what its graph returned; gives what is handed on, None to close the pipe."""


def unchanged(name: str, output: NDArray[Any]) -> NDArray[Any]:
    return output


@dataclass
class Decoded:
    """How the program ended, what it said, its image, and the grid and planes that passed through the pipe."""

    code: int
    message: str
    image: np.ndarray | None
    grid: np.ndarray | None
    planes: np.ndarray | None
    graphs: list[str]


def build(folder: Path) -> Path:
    """Build the program with all warnings as errors and under sanitizers."""
    program = folder / "uigc-decode"
    flags = ["-std=c++17", "-O1", *WARNINGS.split(), *SANITIZERS.split()]
    includes = ["-I", str(ROOT / "cpp"), "-I", str(ROOT / "tests" / "cpp")]
    subprocess.run([str(COMPILER), *flags, *includes, str(ROOT / "cpp" / "decode.cpp"), "-o", str(program)], check=True)
    return program


@functools.cache
def _session(path: str) -> Any:
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def run(program: Path, bundle: Path, data: Path, out: Path, change: Change = unchanged) -> Decoded:
    """Run the program, and the graphs that it asks for; its image is removed."""
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    found = Decoded(0, "", None, None, None, [])
    with subprocess.Popen([program, bundle, data, out], env=environment, **pipes) as process:
        while line := process.stdout.readline():
            path, output, rows, columns = line.decode().split()
            shape = 1, int(rows), int(columns)
            tokens = np.frombuffer(process.stdout.read(4 * shape[1] * shape[2]), np.int32).reshape(shape)
            (result,) = _session(path).run([output], {"tokens": tokens})
            found.graphs.append(Path(path).name)
            if output == "image":
                found.grid, found.planes = tokens[0], result[0]
            handed_on = change(output, result.copy())
            if handed_on is None:
                process.stdin.close()
                break
            _answer(process.stdin, handed_on)
        found.message = process.stderr.read().decode()
    found.code = process.returncode
    if out.is_file():
        found.image = _read_ppm(out)
        out.unlink()
    return found


def _answer(pipe: IO[bytes], output: NDArray[Any]) -> None:
    """Write type, shape and elements as the stand-in reads them: elements of 4 bytes each, whatever the type says."""
    elements = np.ascontiguousarray(output)
    count = elements.nbytes // 4
    head = np.array([TYPES[str(output.dtype)], output.ndim, *output.shape, count], dtype=np.int64)
    pipe.write(head.tobytes() + elements.tobytes()[: 4 * count])
    pipe.flush()


def _read_ppm(path: Path) -> np.ndarray:
    magic, size, largest, pixels = path.read_bytes().split(b"\n", 3)
    width, height = map(int, size.split())
    assert (magic, largest) == (b"P6", b"255")
    return np.frombuffer(pixels, np.uint8).reshape(height, width, 3)
