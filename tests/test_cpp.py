"""The C++ decoder equals the codec; it is built with all compiler warnings as errors and under sanitizers.

Its networks run on ONNX Runtime all the same: it is built with a stand-in for the C++ header, whose sessions live at
the other end of a pipe, in this process. The stand-in refuses to start while ONNX Runtime's telemetry is on.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.support import cpp
from tests.support.cpp import Change, Decoded, needs_compiler, unchanged
from tests.support.files import resealed
from tests.support.paths import ROOT
from uigc.runtime.bundle import Bundle
from uigc.runtime.bundle.seal import sealed
from uigc.runtime.codec import Codec
from uigc.runtime.errors import ExitCode

GOLDEN = ROOT / "tests" / "golden"
PIXELS = np.random.default_rng(0).integers(0, 256, (90, 130, 3), dtype=np.uint8)
Decode = Callable[..., Decoded]
pytestmark = needs_compiler


@pytest.fixture(scope="module")
def tiny_path(earlier_path: Path) -> Path:
    """The C++ decoder reads bundles of version 2."""
    return earlier_path


@pytest.fixture(scope="module")
def tiny(tiny_path: Path) -> Codec:
    return Codec(tiny_path, threads=1)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return cpp.build(tmp_path_factory.mktemp("cpp"))


@pytest.fixture
def decode(program: Path, tmp_path: Path) -> Decode:
    folder = tmp_path / "decoded"
    folder.mkdir()

    def run(bundle: Path, data: bytes, change: Change = unchanged) -> Decoded:
        (tmp_path / "in.uigc").write_bytes(data)
        found = cpp.run(program, bundle, tmp_path / "in.uigc", folder / "out.ppm", change)
        assert list(folder.iterdir()) == []  # nothing half-written
        assert found.message.count("\n") == (found.code != 0), found.message
        assert (found.code == 0) == (found.image is not None)
        return found

    return run


@pytest.fixture
def copied(tiny_path: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_path, tmp_path / "bundle"))


@pytest.mark.parametrize("label", ["entire", "edge", "edge_more", "edge_more+draw7"])
def test_golden_files(decode: Decode, label: str) -> None:
    found = decode(Bundle.load(recompute=False).path, (GOLDEN / f"coffee-{label}.uigc").read_bytes())
    assert found.code == 0, found.message
    assert np.array_equal(found.grid, json.loads((GOLDEN / "coffee.json").read_text())["grids"][label])
    height, width = found.image.shape[:2]
    wanted = np.rint(np.clip(found.planes, 0, 1) * np.float32(255)).astype(np.uint8).transpose(1, 2, 0)
    assert np.array_equal(found.image, wanted[:height, :width])


@pytest.mark.parametrize(("height", "width"), [(1, 1), (100, 330), (257, 129), (64, 700)])
def test_another_bundle_and_any_size(decode: Decode, tiny: Codec, tiny_path: Path, height: int, width: int) -> None:
    pixels = np.random.default_rng(height).integers(0, 256, (height, width, 3), dtype=np.uint8)
    for mask in ("entire", "edge", "edge_more:0.3", "edge_more:0+draw200", "edge+draw0"):
        encoded = tiny.encode_tokens(tiny.tokenize(pixels), pixels, mask)
        found = decode(tiny_path, encoded.data)
        assert found.code == 0, found.message
        assert np.array_equal(found.grid, encoded.grid), mask
        assert found.image.shape == (height, width, 3)
        assert set(found.graphs) == {*(f"stage{stage}.int8.onnx" for stage in range(6)), "decoder.fp32.onnx"}


def test_a_bundle_without_int8(decode: Decode, tiny: Codec, copied: Path) -> None:
    manifest = json.loads((copied / "manifest.json").read_text())
    del manifest["graphs"]["stage3"]["precisions"]["int8"]
    (copied / "manifest.json").write_bytes(sealed(manifest))
    found = decode(copied, tiny.compress(PIXELS, "edge"))
    assert found.code == 0, found.message
    assert all(name.endswith(".fp32.onnx") for name in found.graphs)


def test_files_that_must_not_be_decoded(decode: Decode, tiny: Codec, tiny_path: Path) -> None:
    """Each with the exit code of the package's error; test_cpp_agreement.py has thousands of them."""
    data = tiny.compress(PIXELS, "edge")
    broken = {
        b"": (5, "is empty"),
        b"PNG" + data[3:]: (5, "does not begin"),
        data[:12]: (8, "truncated"),
        data[:-1]: (8, f"{len(data) - 1} bytes and {len(data)} were expected"),
        data + b"\0": (8, f"{len(data) + 1} bytes and {len(data)} were expected"),
        data[:-3] + bytes([data[-3] ^ 1]) + data[-2:]: (8, "damaged"),
        resealed(data[:3] + b"\2" + data[4:]): (6, "format version 2"),
        resealed(data[:4] + b"\3" + data[5:]): (6, "mask mode 3"),
        resealed(data[:5] + b"\0\0\0\0" + data[9:]): (7, "another prior"),
        resealed(data[:13] + b"\x80" + data[13:]): (8, "malformed number"),
        resealed(data[:-9] + bytes(9)): (13, "was not computed exactly"),
    }
    for changed, (code, text) in broken.items():
        found = decode(tiny_path, changed)
        assert (found.code, text in found.message) == (code, True), (text, found.message)


def test_images_that_are_too_large(decode: Decode, tiny: Codec, copied: Path) -> None:
    """For a tokenizer that looks at the whole image; for others, only the format sets a limit."""
    manifest = json.loads((copied / "manifest.json").read_text())
    manifest["tokenizer"]["local"] = False
    (copied / "manifest.json").write_bytes(sealed(manifest))
    data = tiny.compress(PIXELS, "edge")
    found = decode(copied, resealed(data[:13] + b"\xff\x7f\xff\x7f" + data[16:]))
    assert (found.code, "16384x16384 pixels" in found.message) == (9, True), found.message


def with_one(name: str, number: float) -> Change:
    """A change that puts a number in the middle of an output."""

    def change(output: str, values: NDArray[Any]) -> NDArray[Any]:
        if output == name:
            values.reshape(-1)[values.size // 2] = number
        return values

    return change


def with_other(name: str, change: Callable[[NDArray[Any]], NDArray[Any] | None]) -> Change:
    return lambda output, values: change(values) if output == name else values


@pytest.mark.parametrize("number", [2048, -2048, 2**31 - 1, -(2**31)])
def test_logits_out_of_range(decode: Decode, tiny: Codec, tiny_path: Path, number: int) -> None:
    for mask in ("entire", "edge_more+draw3"):
        found = decode(tiny_path, tiny.compress(PIXELS, mask), with_one("logits", number))
        assert found.code == ExitCode.PROVIDER
        assert f"returned the logit {number}" in found.message


def test_the_largest_values_pass(decode: Decode, tiny: Codec, tiny_path: Path) -> None:
    data = tiny.compress(PIXELS, "entire")
    for number in (2047, -2047):  # other tokens, but nothing that is not defined
        assert decode(tiny_path, data, with_one("logits", number)).code in (ExitCode.OK, ExitCode.INEXACT)
    for number in (-1e38, 1e38):
        assert decode(tiny_path, data, with_one("image", number)).code == 0


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_planes_that_are_not_finite(decode: Decode, tiny: Codec, tiny_path: Path, number: float) -> None:
    found = decode(tiny_path, tiny.compress(PIXELS, "entire"), with_one("image", number))
    assert found.code == ExitCode.PROVIDER
    assert "'decoder' returned values that are not finite" in found.message


OTHERS: list[Callable[[NDArray[Any]], NDArray[Any] | None]] = [
    lambda output: output[..., :-1],
    lambda output: output[:, :0],
    lambda output: output[0],
    lambda output: output[None],
    lambda output: output.astype(np.int64 if output.dtype == np.int32 else np.float64),
    lambda output: output.view(np.float32 if output.dtype == np.int32 else np.int32),
    lambda output: None,
]


@pytest.mark.parametrize("other", OTHERS)
def test_outputs_of_other_shapes_and_types(decode: Decode, tiny: Codec, tiny_path: Path, other: Any) -> None:
    data = tiny.compress(PIXELS, "edge")
    for name, graph in (("logits", "stage0"), ("image", "decoder")):
        found = decode(tiny_path, data, with_other(name, other))
        assert found.code == ExitCode.PROVIDER
        assert f"The graph '{graph}' " in found.message


def test_a_bundle_that_is_replaced_while_it_is_used(decode: Decode, tiny: Codec, copied: Path) -> None:
    def replacing(output: str, values: NDArray[Any]) -> NDArray[Any]:
        if output == "image":
            (copied / "weights.safetensors").write_bytes((copied / "weights.safetensors").read_bytes() + b"\0")
        return values

    found = decode(copied, tiny.compress(PIXELS, "edge"), replacing)
    assert found.code == ExitCode.BUNDLE
    assert "was changed while the bundle was in use" in found.message


def test_a_bundle_that_is_not_intact(decode: Decode, tiny: Codec, copied: Path, tmp_path: Path) -> None:
    """Before the file is read; test_cpp_agreement.py has hundreds of them."""
    (tmp_path / "empty").mkdir()
    assert "manifest.json is missing" in decode(tmp_path / "empty", b"").message
    graph = copied / "stage3.int8.onnx"
    graph.write_bytes(graph.read_bytes()[:-1] + b"\0")
    found = decode(copied, b"")
    assert found.code == ExitCode.BUNDLE
    assert "stage3.int8.onnx does not have the hash" in found.message


def test_inputs_and_outputs(program: Path, tiny: Codec, tiny_path: Path, tmp_path: Path) -> None:
    data = tmp_path / "in.uigc"
    data.write_bytes(tiny.compress(PIXELS, "edge"))
    (tmp_path / "there.ppm").write_bytes(b"kept")
    outcomes = {
        (tmp_path / "absent.uigc", tmp_path / "out.ppm"): ExitCode.INPUT,
        (tmp_path, tmp_path / "out.ppm"): ExitCode.INPUT,
        (data, tmp_path): ExitCode.OUTPUT,
        (data, tmp_path / "absent" / "out.ppm"): ExitCode.OUTPUT,
    }
    for (given, out), code in outcomes.items():
        assert cpp.run(program, tiny_path, given, out).code == code, (given, out)
    done = subprocess.run([program, tiny_path, data, tmp_path / "there.ppm"], capture_output=True)
    assert (done.returncode, (tmp_path / "there.ppm").read_bytes()) == (ExitCode.OUTPUT, b"kept")
    assert subprocess.run([program], capture_output=True).returncode == ExitCode.USAGE
    assert {path.name for path in tmp_path.iterdir()} == {"in.uigc", "there.ppm"}


def test_the_code_of_the_page_compiles(tmp_path: Path) -> None:
    (code,) = re.findall(r"```cpp\n(.*?)```", (ROOT / "docs" / "EMBEDDING.md").read_text(encoding="utf-8"), re.DOTALL)
    source = tmp_path / "page.cpp"
    source.write_text('#include "bundle.hpp"\nuigc::Tokens page(uigc::Bytes bytes) {' + code + "return grid.tokens; }")
    command = [str(cpp.COMPILER), "-std=c++17", "-fsyntax-only", "-I", str(ROOT / "cpp"), str(source)]
    subprocess.run(command, check=True)
