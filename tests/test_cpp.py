"""The C++ decoder equals the codec; it is built with all compiler warnings as errors and under sanitizers.

Its networks run on ONNX Runtime all the same: it is built with a stand-in for the C++ header, whose sessions live at
the other end of a pipe, in this process.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from tests.support.files import resealed
from tests.support.paths import ROOT
from uigc.runtime.bundle import Bundle
from uigc.runtime.codec import Codec

GOLDEN = ROOT / "tests" / "golden"
COMPILER = shutil.which("g++") or shutil.which("clang++")
pytestmark = pytest.mark.skipif(COMPILER is None, reason="needs a C++ compiler")


@dataclasses.dataclass
class Decoded:
    code: int
    message: str
    grid: np.ndarray | None
    image: np.ndarray | None
    planes: np.ndarray | None


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    built = tmp_path_factory.mktemp("cpp") / "uigc-decode"
    flags = "-std=c++17 -O1 -Wall -Wextra -Wshadow -Werror -fsanitize=address,undefined -fno-sanitize-recover=all"
    folders = ["-I", str(ROOT / "cpp"), "-I", str(ROOT / "tests" / "cpp")]
    subprocess.run(
        [str(COMPILER), *flags.split(), *folders, str(ROOT / "cpp" / "decode.cpp"), "-o", str(built)], check=True
    )
    return built


@pytest.fixture
def decode(program: Path, tmp_path: Path) -> Callable[[Path, bytes], Decoded]:
    def run(bundle: Path, data: bytes) -> Decoded:
        (tmp_path / "in.uigc").write_bytes(data)
        out = tmp_path / "out.ppm"
        command = [str(program), str(bundle), str(tmp_path / "in.uigc"), str(out)]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process:
            grid = planes = None
            while line := process.stdout.readline():
                path, output, rows, columns = line.decode().split()
                shape = 1, int(rows), int(columns)
                tokens = np.frombuffer(process.stdout.read(4 * shape[1] * shape[2]), np.int32).reshape(shape)
                session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
                (result,) = session.run([output], {"tokens": tokens})
                if output == "image":
                    grid, planes = tokens[0], result[0]
                process.stdin.write(np.uint64(result.size).tobytes() + np.ascontiguousarray(result).tobytes())
                process.stdin.flush()
            message = process.stderr.read().decode()
        image = read_ppm(out) if out.exists() else None
        out.unlink(missing_ok=True)
        return Decoded(process.returncode, message, grid, image, planes)

    return run


def read_ppm(path: Path) -> np.ndarray:
    magic, size, largest, pixels = path.read_bytes().split(b"\n", 3)
    width, height = map(int, size.split())
    assert (magic, largest) == (b"P6", b"255")
    return np.frombuffer(pixels, np.uint8).reshape(height, width, 3)


@pytest.mark.parametrize("label", ["entire", "edge", "edge_more", "edge_more+draw7"])
def test_golden_files(decode: Callable[[Path, bytes], Decoded], label: str) -> None:
    found = decode(Bundle.load().path, (GOLDEN / f"coffee-{label}.uigc").read_bytes())
    assert found.code == 0, found.message
    assert np.array_equal(found.grid, json.loads((GOLDEN / "coffee.json").read_text())["grids"][label])
    height, width = found.image.shape[:2]
    wanted = np.rint(np.clip(found.planes, 0, 1) * np.float32(255)).astype(np.uint8).transpose(1, 2, 0)
    assert np.array_equal(found.image, wanted[:height, :width])


@pytest.mark.parametrize(("height", "width"), [(1, 1), (100, 330), (257, 129), (64, 700)])
def test_another_bundle_and_any_size(
    decode: Callable[[Path, bytes], Decoded], tiny: Codec, tiny_path: Path, height: int, width: int
) -> None:
    rng = np.random.default_rng(height)
    pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    for mask in ("entire", "edge", "edge_more:0.3", "edge_more:0+draw200", "edge+draw0"):
        encoded = tiny.encode_tokens(tiny.tokenize(pixels), pixels, mask)
        found = decode(tiny_path, encoded.data)
        assert found.code == 0, found.message
        assert np.array_equal(found.grid, encoded.grid), mask
        assert found.image.shape == (height, width, 3)


def test_files_that_must_not_be_decoded(decode: Callable[[Path, bytes], Decoded], tiny: Codec, tiny_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (90, 130, 3), dtype=np.uint8)
    data = tiny.compress(pixels, "edge")
    broken = {
        b"": "does not begin",
        b"PNG" + data[3:]: "does not begin",
        data[:12]: "truncated",
        data[:-1]: "longer or shorter",
        data + b"\0": "longer or shorter",
        data[:-3] + bytes([data[-3] ^ 1]) + data[-2:]: "damaged",
        resealed(data[:3] + b"\2" + data[4:]): "version other than 1",
        resealed(data[:4] + b"\3" + data[5:]): "mask mode",
        resealed(data[:5] + b"\0\0\0\0" + data[9:]): "another prior",
        resealed(data[:13] + b"\x80" + data[13:]): "malformed number",
        resealed(data[:13] + b"\xff\x7f\xff\x7f" + data[16:]): "more pixels",
    }
    for changed, text in broken.items():
        found = decode(tiny_path, changed)
        assert (found.code, found.image) == (1, None)
        assert text in found.message, (text, found.message)
    refused = 0
    for index in range(17, len(data)):
        found = decode(tiny_path, resealed(data[:index] + bytes([data[index] ^ 0x55]) + data[index + 1 :]))
        assert found.code in (0, 1), found.message  # a sanitizer would end the program with another code
        refused += found.code
        if refused > 3:
            break
    assert refused > 3


def test_a_folder_that_is_not_a_bundle(decode: Callable[[Path, bytes], Decoded], tmp_path: Path) -> None:
    found = decode(tmp_path, b"UIG")
    assert (found.code, found.image) == (1, None)
    assert "Cannot read" in found.message
    (tmp_path / "manifest.json").write_text('{"format": "uigc-bundle", "version": 9')
    assert "cut off" in decode(tmp_path, b"UIG").message
    (tmp_path / "manifest.json").write_text('{"format": "uigc-bundle", "version": 9}')
    assert "not a bundle of version 2" in decode(tmp_path, b"UIG").message


def test_weights_that_are_cut_off(decode: Callable[[Path, bytes], Decoded], tiny_path: Path, tmp_path: Path) -> None:
    weights = (tiny_path / "weights.safetensors").read_bytes()
    shutil.copy(tiny_path / "manifest.json", tmp_path)
    for count in (0, 7, 100, 1000):
        (tmp_path / "weights.safetensors").write_bytes(weights[:count])
        found = decode(tmp_path, b"UIG")
        assert (found.code, found.image) == (1, None)
        assert "cut off" in found.message
