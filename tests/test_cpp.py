"""The C++ decoder equals the codec, on ONNX Runtime's own header and library, whatever its graphs return.

It is built with every warning an error and runs under sanitizers here; ``test_c_api.py`` builds it as users do.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto

from tests.support import broken_graphs, cpp
from tests.support.broken_graphs import OTHERS, through, with_one
from tests.support.cpp import Decoded, needs_compiler
from tests.support.earlier_bundles import as_version_2, as_version_3
from tests.support.files import resealed
from tests.support.paths import ROOT
from uigc.export.decoder_only import write_decoder
from uigc.runtime.bundle import Bundle, default_path
from uigc.runtime.bundle.seal import sealed
from uigc.runtime.codec import Codec
from uigc.runtime.errors import ExitCode

GOLDEN = ROOT / "tests" / "golden"
PIXELS = np.random.default_rng(0).integers(0, 256, (90, 130, 3), dtype=np.uint8)
Decode = Callable[..., Decoded]
pytestmark = needs_compiler


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    made = cpp.compile_all(tmp_path_factory.mktemp("cpp"), str(cpp.COMPILER), *cpp.SANITIZED)
    return {path.stem: path for path in made}


@pytest.fixture(scope="module")
def program(objects: dict[str, Path]) -> Path:
    parts = [objects["codec"], objects["decode"]]
    return cpp.link(parts[0].with_name("uigc-decode"), str(cpp.COMPILER), parts, *cpp.SANITIZED)


@pytest.fixture
def decode(program: Path, tmp_path: Path) -> Decode:
    folder = tmp_path / "decoded"
    folder.mkdir()

    def run(bundle: Path, data: bytes, grid: bool = False) -> Decoded:
        (tmp_path / "in.uigc").write_bytes(data)
        found = cpp.run(program, bundle, tmp_path / "in.uigc", folder / "out.ppm")
        assert list(folder.iterdir()) == []  # nothing half-written
        assert found.message.count("\n") == (found.code != 0), found.message
        assert (found.code == 0) == (found.image is not None)
        if grid:
            found.grid = cpp.grid_of(program, bundle, tmp_path / "in.uigc").grid
        return found

    return run


@pytest.fixture
def copied(tiny_path: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_path, tmp_path / "bundle"))


def altered(folder: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    manifest = json.loads((folder / "manifest.json").read_text())
    change(manifest)
    (folder / "manifest.json").write_bytes(sealed(manifest))
    return folder


def test_a_golden_file(decode: Decode) -> None:
    """Pixels are those of the package's own default, int8, on the same library; test_c_api.py reads all of them."""
    label = "edge_more+draw7"
    data = (GOLDEN / f"coffee-{label}.uigc").read_bytes()
    found = decode(default_path(), data, grid=True)
    assert found.code == 0, found.message
    assert np.array_equal(found.grid, json.loads((GOLDEN / "coffee.json").read_text())["grids"][label])
    assert np.array_equal(found.image, Codec().decompress(data))


@pytest.mark.parametrize(("height", "width"), [(1, 1), (100, 330), (257, 129), (64, 700)])
def test_another_bundle_and_any_size(decode: Decode, tiny: Codec, tiny_path: Path, height: int, width: int) -> None:
    pixels = np.random.default_rng(height).integers(0, 256, (height, width, 3), dtype=np.uint8)
    for mask in ("entire", "edge", "edge_more:0.3", "edge_more:0+draw200", "edge+draw0"):
        encoded = tiny.encode_tokens(tiny.tokenize(pixels), pixels, mask)
        found = decode(tiny_path, encoded.data, grid="+draw" in mask)
        assert found.code == 0, found.message
        assert found.grid is None or np.array_equal(found.grid, encoded.grid), mask
        assert np.array_equal(found.image, tiny.decompress(encoded.data))


def test_a_bundle_that_only_decodes(decode: Decode, tmp_path: Path) -> None:
    write_decoder(Bundle.load(), tmp_path / "decoder", False, lambda text: None)
    data = (GOLDEN / "coffee-edge.uigc").read_bytes()
    found = decode(tmp_path / "decoder", data)
    assert found.code == 0, found.message
    assert np.array_equal(found.image, Codec().decompress(data))


def test_bundles_without_fast_precisions(decode: Decode, tiny: Codec, copied: Path) -> None:
    """Where one stage lacks int8 and its fp32 graph alone works, all stages are fp32."""
    for each in ("stage0", "stage5"):
        broken_graphs.edited(copied, each, lambda model: None)  # every precision is written anew
    manifest = json.loads((copied / "manifest.json").read_text())
    del manifest["graphs"]["stage3"]["precisions"]["int8"]
    for stage in (0, 1, 2, 4, 5):
        broken_graphs.replace(copied, manifest["graphs"][f"stage{stage}"]["precisions"]["int8"], b"no graph")
    (copied / "manifest.json").write_bytes(sealed(manifest))
    data = tiny.compress(PIXELS, "edge")
    assert np.array_equal(decode(copied, data).image, tiny.decompress(data))
    altered(copied, lambda manifest: [
        graph.update(precisions={"fp32": graph["precisions"]["fp32"]}) for graph in manifest["graphs"].values()
    ])  # fmt: skip
    assert np.array_equal(decode(copied, data).image, tiny.decompress(data))


def test_a_decoder_that_ends_in_bytes(decode: Decode, tiny: Codec, copied: Path) -> None:
    """Bundles from version 3 on."""
    data = tiny.compress(PIXELS, "edge")
    altered(copied, lambda manifest: manifest.update(version=2))
    assert decode(copied, data).code == ExitCode.BUNDLE  # version 2 with bytes
    altered(copied, lambda manifest: manifest.update(version=4))
    found = decode(copied, data, grid=True)
    assert found.code == 0, found.message
    assert np.array_equal(found.image, tiny.decompress(data))
    assert np.array_equal(found.grid, tiny.decode_tokens(data))
    altered(copied, lambda manifest: manifest.update(version=5))
    assert "not one of 2 to 4" in decode(copied, data).message


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
    altered(copied, lambda manifest: manifest["tokenizer"].update(local=False))
    data = tiny.compress(PIXELS, "edge")
    found = decode(copied, resealed(data[:13] + b"\xff\x7f\xff\x7f" + data[16:]))
    assert (found.code, "16384x16384 pixels" in found.message) == (9, True), found.message


@pytest.mark.parametrize("number", [2048, -2048, 2**31 - 1, -(2**31)])
def test_logits_out_of_range(decode: Decode, tiny: Codec, copied: Path, number: int) -> None:
    broken_graphs.edited(copied, "stage1", with_one("predictions", number))
    for mask in ("entire", "edge_more+draw3"):
        found = decode(copied, tiny.compress(PIXELS, mask))
        assert found.code == ExitCode.PROVIDER
        assert f"'stage1' returned the logit {number}" in found.message


SUMS = [
    (1, 16, ExitCode.INEXACT, "are not those of its logits"), (1, 20, ExitCode.INEXACT, "are not those of its logits"),
    (-(2**31), 16, ExitCode.PROVIDER, "the weight -2147"), (1 << 22, 16, ExitCode.PROVIDER, "and 4 to 2097148 was"),
    (5000, 20, ExitCode.PROVIDER, "the largest logit"), (-1, 20, ExitCode.INEXACT, "are others than it stated"),
]  # fmt: skip


@pytest.mark.parametrize(("added", "column", "code", "text"), SUMS)
def test_sums_that_are_not_those_of_the_logits(
    decode: Decode, tiny: Codec, copied: Path, added: int, column: int, code: ExitCode, text: str
) -> None:
    """The weights of all digits of a token, or its largest logit, in a stage of which every token is sent, or none."""
    numbers = np.zeros(21, np.int32)
    numbers[column : 20 if column < 20 else 21] = added
    stage, mask = ("stage5", "edge_more:0") if "stated" in text else ("stage1", "entire")
    broken_graphs.edited(copied, stage, through("Add", "predictions", TensorProto.INT32, numbers))
    found = decode(copied, tiny.compress(PIXELS, mask))
    assert (found.code, text in found.message) == (code, True), found.message


def test_bundles_whose_stages_return_logits_alone(decode: Decode, tiny: Codec, tiny_path: Path, tmp_path: Path) -> None:
    folder = as_version_3(tiny_path, tmp_path / "bundle")
    for mask in ("entire", "edge", "edge_more+draw3"):
        data = tiny.compress(PIXELS, mask)
        assert np.array_equal(decode(folder, data).image, tiny.decompress(data))


def test_the_largest_values_pass(decode: Decode, tiny: Codec, tiny_path: Path, tmp_path: Path) -> None:
    data = tiny.compress(PIXELS, "entire")
    for name, number in (("logits", 2047), ("logits", -2047), ("image", -1e38), ("image", 1e38)):
        folder = as_version_2(tiny_path, tmp_path / f"{number}")
        broken_graphs.edited(folder, "stage0" if name == "logits" else "decoder", with_one(name, number))
        found = decode(folder, data)
        if name == "logits":  # other tokens, but nothing that is not defined
            assert found.code in (ExitCode.OK, ExitCode.INEXACT)
        else:
            wanted = tiny.decompress(data)
            wanted[0, 7, 0] = 255 if number > 0 else 0
            assert np.array_equal(found.image, wanted)


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_planes_that_are_not_finite(
    decode: Decode, tiny: Codec, tiny_path: Path, tmp_path: Path, number: float
) -> None:
    folder = as_version_2(tiny_path, tmp_path / "bundle")
    broken_graphs.edited(folder, "decoder", with_one("image", number))
    found = decode(folder, tiny.compress(PIXELS, "entire"))
    assert found.code == ExitCode.PROVIDER
    assert "'decoder' returned values that are not finite" in found.message


@pytest.mark.parametrize("other", OTHERS)
def test_other_shapes_and_types(decode: Decode, tiny: Codec, tiny_path: Path, other: str, tmp_path: Path) -> None:
    data = tiny.compress(PIXELS, "edge")
    kinds = {"logits": TensorProto.INT32, "predictions": TensorProto.INT32, "image": TensorProto.FLOAT}
    for name, dtype in kinds.items():
        graph = "decoder" if name == "image" else "stage0"
        folder = (shutil.copytree if name == "predictions" else as_version_2)(tiny_path, tmp_path / name)
        broken_graphs.edited(folder, graph, OTHERS[other](name, dtype))
        found = decode(folder, data)
        assert found.code == ExitCode.PROVIDER
        assert f"The graph '{graph}' " in found.message


def test_graphs_that_do_not_load(decode: Decode, tiny: Codec, copied: Path) -> None:
    def damage(manifest: dict[str, Any]) -> None:
        for entry in manifest["graphs"]["stage2"]["precisions"].values():
            broken_graphs.replace(copied, entry, b"\x08\x08 this is no graph")

    found = decode(altered(copied, damage), tiny.compress(PIXELS, "edge"))
    assert (found.code, "The graph 'stage2' failed" in found.message) == (ExitCode.PROVIDER, True), found.message


def test_a_bundle_that_is_not_intact(decode: Decode, tiny: Codec, copied: Path, tmp_path: Path) -> None:
    """test_cpp_agreement.py has hundreds of them."""
    (tmp_path / "empty").mkdir()
    data = tiny.compress(PIXELS, "edge")
    assert "manifest.json is missing" in decode(tmp_path / "empty", data).message
    graph = copied / "stage3.int8.onnx"
    graph.write_bytes(graph.read_bytes()[:-1] + b"\0")
    found = decode(copied, data)
    assert found.code == ExitCode.BUNDLE
    assert "stage3.int8.onnx does not have the hash" in found.message
    assert decode(copied, b"junk").code == ExitCode.UNRECOGNIZED_FILE  # and the bundle is not looked at


def test_the_interface_for_c(objects: dict[str, Path], tiny: Codec, copied: Path, tmp_path: Path) -> None:
    """The example in C under the same sanitizers, that for leaks among them."""
    example, source = tmp_path / "example.o", ROOT / "examples" / "05_c" / "decode.c"
    compiler = shutil.which("gcc") or shutil.which("clang")
    command = [str(compiler), "-std=c11", *cpp.SANITIZED, "-I", ROOT / "cpp", "-c", source, "-o", example]
    subprocess.run(command, check=True)
    parts = [objects["codec"], objects["uigc"], example]
    program = cpp.link(example.with_suffix(""), str(cpp.COMPILER), parts, *cpp.SANITIZED)
    data = tiny.compress(PIXELS, "edge")

    def run(given: bytes) -> subprocess.CompletedProcess[bytes]:
        (tmp_path / "in.uigc").write_bytes(given)
        return subprocess.run([program, copied, tmp_path / "in.uigc"], env=cpp.environment(), capture_output=True)

    assert np.array_equal(cpp.read_ppm(run(data).stdout), tiny.decompress(data))
    broken_graphs.edited(copied, "stage4", with_one("predictions", 5000))
    for given, code in ((data, 11), (data[:-1], 8), (resealed(data[:5] + b"none" + data[9:]), 7)):
        done = run(given)
        assert (done.returncode, done.stdout, done.stderr.count(b"\n")) == (code, b"", 1), done.stderr.decode()


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
