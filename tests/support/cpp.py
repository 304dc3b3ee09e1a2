"""Building the decoder in C++ against ONNX Runtime's own header and library, and running it."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock

from tests.support.paths import ROOT
from uigc.fuzz.agreement import SANITIZERS, WARNINGS

COMPILER = shutil.which("g++") or shutil.which("clang++")
needs_compiler = pytest.mark.skipif(COMPILER is None, reason="needs a C++ compiler")
SDK = ROOT / ".venv" / "onnxruntime"
"""Where the headers are kept between runs."""
FLAGS = ("-std=c++17", "-pthread", *WARNINGS.split())
SANITIZED = ("-O1", "-g1", *SANITIZERS.split())


@functools.cache
def onnxruntime_root() -> Path:
    """A folder with ``include/`` and ``lib/`` of ONNX Runtime, as the script of the page makes it, or a skip."""
    script = ROOT / "cpp" / "fetch_onnxruntime.sh"
    SDK.parent.mkdir(exist_ok=True)
    with FileLock(SDK.with_suffix(".lock")):
        done = subprocess.run([script, SDK], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"ONNX Runtime's headers cannot be had here: {(done.stderr.splitlines() or ['no reason'])[-1]}")
    root = Path(tempfile.mkdtemp(prefix="onnxruntime-"))
    (root / "include").symlink_to(SDK / "include")
    subprocess.run([script, root, sys.executable], check=True)
    return root


def compile_all(folder: Path, compiler: str, *flags: str, include: Path | None = None) -> list[Path]:
    """Compile the sources of ``cpp/`` with all warnings as errors, two at a time; return their objects."""
    include = include or onnxruntime_root() / "include"
    folder.mkdir(exist_ok=True)
    sources = [ROOT / "cpp" / name for name in ("codec.cpp", "decode.cpp", "uigc.cpp")]
    objects = [folder / f"{source.stem}.o" for source in sources]
    begun = [
        subprocess.Popen([compiler, *FLAGS, *flags, "-I", ROOT / "cpp", "-isystem", include, "-c", source, "-o", made])
        for source, made in zip(sources, objects, strict=True)
    ]
    assert [each.wait() for each in begun] == [0] * len(begun)
    return objects


def link(program: Path, compiler: str, objects: list[Path], *flags: str) -> Path:
    """Link objects with the library that the tests' own Python runs."""
    library = onnxruntime_root() / "lib"
    where = ["-L", library, "-lonnxruntime", f"-Wl,-rpath,{library}"]
    subprocess.run([compiler, "-pthread", *flags, *objects, *where, "-o", program], check=True)
    return program


def build(folder: Path) -> Path:
    """Build the program, without sanitizers."""
    made = {path.stem: path for path in compile_all(folder, str(COMPILER))}
    return link(folder / "uigc-decode", str(COMPILER), [made["codec"], made["decode"]])


@dataclass
class Decoded:
    """How the program ended, what it said, its image, and its grid if that was asked for."""

    code: int
    message: str
    image: np.ndarray | None
    grid: np.ndarray | None


def environment() -> dict[str, str]:
    """The environment of a user who has not heard of ONNX Runtime's telemetry."""
    return {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}


def run(program: Path, bundle: Path, data: Path, out: Path) -> Decoded:
    """Decode a file to an image, which is removed."""
    done = subprocess.run([program, bundle, data, out], env=environment(), capture_output=True, text=True)
    found = Decoded(done.returncode, done.stderr, None, None)
    assert done.stdout == ""
    if out.is_file():
        found.image = read_ppm(out.read_bytes())
        out.unlink()
    return found


def grid_of(program: Path, bundle: Path, data: Path) -> Decoded:
    """Decode a file to its grid."""
    done = subprocess.run([program, "--tokens", bundle, data], env=environment(), capture_output=True, text=True)
    rows = [[int(token) for token in line.split()] for line in done.stdout.splitlines()]
    return Decoded(done.returncode, done.stderr, None, np.array(rows, dtype=np.int32) if rows else None)


def read_ppm(data: bytes) -> np.ndarray:
    magic, size, largest, pixels = data.split(b"\n", 3)
    width, height = map(int, size.split())
    assert (magic, largest) == (b"P6", b"255")
    return np.frombuffer(pixels, np.uint8).reshape(height, width, 3)
