"""The library for C, built and installed as users do it, and what it decodes: what the package decodes."""

from __future__ import annotations

import ctypes
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from tests.support import cpp
from tests.support.c_library import Header, Library, Options, fields
from tests.support.files import resealed
from tests.support.paths import ROOT
from uigc.fuzz.agreement import WARNINGS
from uigc.runtime.bundle import default_path
from uigc.runtime.codec import Codec
from uigc.runtime.errors import ExitCode, UigcError
from uigc.runtime.format.mask import MODES
from uigc.runtime.io import image

GOLDEN = ROOT / "tests" / "golden"
PAGE = ROOT / "docs" / "EMBEDDING.md"
LABELS = ["entire", "edge", "edge_more", "edge_more+draw7"]
PIXELS = np.random.default_rng(0).integers(0, 256, (90, 130, 3), dtype=np.uint8)
NAMES = {"uigc_close", "uigc_decode_tokens", "uigc_decompress", "uigc_last_error", "uigc_open", "uigc_read_header"}
CLANG = shutil.which("clang++")
pytestmark = [cpp.needs_compiler, pytest.mark.skipif(shutil.which("cmake") is None, reason="needs CMake")]


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the page's commands have been run as they stand; what is installed is in ``build/prefix/``."""
    folder = tmp_path_factory.mktemp("cmake")
    (folder / "build" / "onnxruntime").mkdir(parents=True)
    (folder / "build" / "onnxruntime" / "include").symlink_to(cpp.onnxruntime_root() / "include")
    for name in ("cpp", "examples", "runtime", "tests"):
        (folder / name).symlink_to(ROOT / name)
    (folder / "bin").mkdir()
    (folder / "bin" / "python3").write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    (folder / "bin" / "python3").chmod(0o755)
    flags = "-Wall -Wextra -Wshadow -Wconversion -Wpedantic -Werror"
    environment = cpp.environment() | {"PATH": f"{folder / 'bin'}:{os.environ['PATH']}", "CXXFLAGS": WARNINGS}
    environment |= {"CFLAGS": flags, "CMAKE_BUILD_PARALLEL_LEVEL": "2"}
    commands = "set -euo pipefail\n" + "".join(blocks("bash"))
    done = subprocess.run(["bash", "-c", commands], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def example(installed: Path) -> Path:
    """The example in C, which is built on what is installed alone."""
    shutil.rmtree(installed / "build" / "cpp")
    return installed / "build" / "c" / "decode"


@pytest.fixture(scope="module")
def library(installed: Path) -> Library:
    return Library.load(installed / "build" / "prefix" / "lib" / "libuigc.so")


@pytest.fixture(scope="module")
def opened(library: Library, tiny_path: Path) -> ctypes.c_void_p:
    codec = library.open(tiny_path)
    assert isinstance(codec, ctypes.c_void_p), codec
    return codec


def test_the_commands_of_the_page(installed: Path) -> None:
    images = [cpp.read_ppm((installed / name).read_bytes()) for name in ("coffee.ppm", "decoded.ppm")]
    assert np.array_equal(*images)


def test_the_example_in_c(example: Path) -> None:
    codec = Codec()
    for label in LABELS:
        path = GOLDEN / f"coffee-{label}.uigc"
        done = subprocess.run([example, default_path(), path], env=cpp.environment(), capture_output=True)
        assert (done.returncode, done.stderr) == (0, b"")
        assert np.array_equal(cpp.read_ppm(done.stdout), codec.decompress(path.read_bytes())), label
    for given, code in ((ROOT / "README.md", 5), (ROOT / "absent", 2)):
        done = subprocess.run([example, example.parent, given], capture_output=True)
        assert (done.returncode, done.stdout, done.stderr.count(b"\n")) == (code, b"", 1)


def test_the_code_of_the_page_in_c(installed: Path, tmp_path: Path) -> None:
    (code,) = blocks("c")
    includes = "#include <stdio.h>\n#include <stdlib.h>\n#include <uigc.h>\n"
    use = "int main(void) { uigc_header header; return decoded(NULL, NULL, 0, &header) != NULL; }"
    (tmp_path / "page.c").write_text(includes + code + use)
    prefix = installed / "build" / "prefix"
    where = [
        "-I",
        prefix / "include" / "uigc",
        "-L",
        prefix / "lib",
        "-luigc",
        f"-Wl,-rpath,{prefix / 'lib'}:{library}",
    ]
    command = ["cc", "-std=c11", "-Wall", "-Wextra", "-Wpedantic", "-Werror", tmp_path / "page.c", *where]
    subprocess.run([*command, "-o", tmp_path / "page"], check=True)
    done = subprocess.run([tmp_path / "page"], capture_output=True, text=True)
    assert (done.returncode, "is empty" in done.stdout) == (0, True)


@pytest.mark.skipif(shutil.which("nm") is None, reason="needs nm")
def test_only_these_names_are_seen(installed: Path) -> None:
    library = installed / "build" / "prefix" / "lib" / "libuigc.so"
    listed = subprocess.run(["nm", "-D", "--defined-only", library], capture_output=True, text=True, check=True)
    assert {line.split()[-1] for line in listed.stdout.splitlines()} == NAMES | {"uigc_version"}


def test_one_version(library: Library) -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    assert library.calls.uigc_version().decode() == version
    assert f"project(uigc VERSION {version} " in (ROOT / "cpp" / "CMakeLists.txt").read_text(encoding="utf-8")


def test_results_are_the_exit_codes_of_the_command() -> None:
    listed = re.findall(r"UIGC_(\w+) = (\d+)", (ROOT / "cpp" / "uigc.h").read_text(encoding="utf-8"))
    assert len(listed) == 11
    assert all(ExitCode[name] == int(number) for name, number in listed)


@pytest.mark.parametrize("label", LABELS)
def test_golden_grids(library: Library, label: str) -> None:
    codec = library.open(default_path(), threads=1)
    grid = library.decode_tokens(codec, (GOLDEN / f"coffee-{label}.uigc").read_bytes())
    assert np.array_equal(grid, json.loads((GOLDEN / "coffee.json").read_text())["grids"][label])
    library.calls.uigc_close(codec)


def test_headers(library: Library, tiny: Codec) -> None:
    for mask, mode, seed in (("entire", 0, -1), ("edge", 1, -1), ("edge_more+draw9", 2, 9), ("edge+draw0", 1, 0)):
        found = library.read_header(tiny.compress(PIXELS, mask))
        assert fields(found) == [130, 90, 9, 6, mode, seed]


def python_code(tiny: Codec, data: bytes) -> int:
    with pytest.raises(UigcError) as caught:
        tiny.decompress(data)
    return int(caught.value.exit_code)


def test_files_that_must_not_be_decoded(library: Library, tiny: Codec, opened: ctypes.c_void_p) -> None:
    data = tiny.compress(PIXELS, "edge")
    broken = [
        b"", b"PNG" + data[3:], data[:12], data[:-1], data + bytes(1 << 22), data[:-1] + bytes([data[-1] ^ 1]),
        resealed(data[:3] + b"\2" + data[4:]), resealed(data[:4] + b"\3" + data[5:]),
        resealed(data[:5] + b"\0\0\0\0" + data[9:]), resealed(data[:-9] + bytes(9)),
    ]  # fmt: skip
    for each in broken:
        wanted = python_code(tiny, each)
        for call in (library.decompress, library.decode_tokens):
            code, message = call(opened, each)
            assert code == wanted
            assert message.endswith(".")
            assert "\n" not in message


def test_an_image_with_gaps_between_its_rows(library: Library, tiny: Codec, opened: ctypes.c_void_p) -> None:
    data = tiny.compress(PIXELS, "edge")
    for spare in (0, 1, 62):
        assert np.array_equal(library.decompress(opened, data, spare), tiny.decompress(data))


def test_places_that_do_not_fit(library: Library, tiny: Codec, opened: ctypes.c_void_p) -> None:
    data, calls = tiny.compress(PIXELS, "edge"), library.calls
    size, place = len(data), np.zeros(1 << 16, dtype=np.uint8)
    at = place.ctypes.data
    for call, arguments, text in (
        (calls.uigc_decompress, (opened, data, size, at, 389, 90), "does not fit the image"),
        (calls.uigc_decompress, (opened, data, size, at, 390, 89), "does not fit the image"),
        (calls.uigc_decompress, (opened, data, size, at, 390, -1), "does not fit the image"),
        (calls.uigc_decompress, (opened, data, size, None, 390, 90), "place for the pixels is a null pointer"),
        (calls.uigc_decompress, (None, data, size, at, 390, 90), "codec"),
        (calls.uigc_decompress, (opened, None, size, at, 390, 90), "data of the file is a null pointer"),
        (calls.uigc_decode_tokens, (opened, data, size, at, 53), "does not fit the grid"),
        (calls.uigc_decode_tokens, (opened, data, size, None, 54), "place for the tokens is a null pointer"),
        (calls.uigc_read_header, (data, size, None), "no place for the header"),
        (calls.uigc_open, (None, None, ctypes.byref(ctypes.c_void_p())), "null pointer"),
        (calls.uigc_open, (b"bundle", None, None), "null pointer"),
    ):
        code, message = library.error(call(*arguments))
        assert (code, text in message) == (ExitCode.USAGE, True), message
    assert not place.any()
    assert calls.uigc_read_header(None, 0, ctypes.byref(Header())) == ExitCode.UNRECOGNIZED_FILE
    calls.uigc_close(None)


def test_options(library: Library, tiny: Codec, tiny_path: Path) -> None:
    data = tiny.compress(PIXELS, "edge")
    for options in ({"threads": 1}, {"precision": b"fp32", "threads": 2}, {"pixel_precision": b"fp16"}):
        codec = library.open(tiny_path, **options)
        assert np.array_equal(library.decode_tokens(codec, data), tiny.decode_tokens(data))
        wanted = Codec(tiny.bundle, pixel_precision=options.get("pixel_precision", b"fp32").decode())
        assert np.array_equal(library.decompress(codec, data), wanted.decompress(data))
        library.calls.uigc_close(codec)
    codec = library.open(tiny_path, max_pixels=90 * 130 - 1)
    assert library.decompress(codec, data)[0] == ExitCode.TOO_LARGE
    library.calls.uigc_close(codec)
    for options, code in (
        ({"threads": -1}, ExitCode.USAGE), ({"max_pixels": -1}, ExitCode.USAGE),
        ({"pixel_precision": b"int8"}, ExitCode.BUNDLE), ({"precision": b"int4"}, ExitCode.BUNDLE),
    ):  # fmt: skip
        assert library.open(tiny_path, **options)[0] == code
    assert library.open(tiny_path / "absent")[0] == ExitCode.BUNDLE
    given, place = Options(ctypes.sizeof(Options) + 8), ctypes.c_void_p()
    assert library.calls.uigc_open(str(tiny_path).encode(), ctypes.byref(given), ctypes.byref(place)) == ExitCode.USAGE


def test_many_threads_with_one_codec(library: Library, tiny: Codec, tiny_path: Path) -> None:
    """All of them from the first file on, while graphs are loading; failures of some are not those of others."""
    codec = library.open(tiny_path, threads=1)
    data, junk = tiny.compress(PIXELS, "edge_more:0.3+draw5"), b"JUNK"
    wanted = tiny.decompress(data)

    def work(number: int) -> bool:
        if number % 3:
            return np.array_equal(library.decompress(codec, data), wanted)
        return bool(library.decompress(codec, junk)[0] == ExitCode.UNRECOGNIZED_FILE)

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(24)))
    library.calls.uigc_close(codec)


def test_a_bundle_that_is_replaced_while_it_is_used(library: Library, tiny: Codec, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny.bundle.path, tmp_path / "bundle"))
    codec, data = library.open(folder), tiny.compress(PIXELS, "edge")
    assert isinstance(library.decompress(codec, data), np.ndarray)
    with open(folder / "weights.safetensors", "ab") as file:
        file.write(b"\0")
    for call in (library.decompress, library.decode_tokens):
        code, message = call(codec, data)
        assert (code, "was changed while the bundle was in use" in message) == (ExitCode.BUNDLE, True), message
    library.calls.uigc_close(codec)


def test_kodak(library: Library, kodak: list[Path]) -> None:
    """Six images, one for each mask; docs/EMBEDDING.md states what all of them in every mask gave."""
    codec, python = library.open(default_path()), Codec()
    for path, mask in zip(kodak[::4], [*MODES, "edge+draw1", "edge_more:0+draw7", "edge:0.6"], strict=True):
        encoded = python.encode(image.read(path.read_bytes()), mask)
        assert np.array_equal(library.decode_tokens(codec, encoded.data), encoded.grid), path.name
        assert np.array_equal(library.decompress(codec, encoded.data), python.decompress(encoded.data)), path.name
    library.calls.uigc_close(codec)


def test_no_telemetry(example: Path, tmp_path: Path) -> None:
    """Official builds would leave a device identifier in the user's cache; a user who wants that is not overruled."""
    found = {}
    for wish in (None, "0"):
        home = tmp_path / str(wish)
        home.mkdir()
        places = dict.fromkeys(("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "TMPDIR"), str(home))
        wishes = {} if wish is None else {"ORT_DISABLE_TELEMETRY": wish}
        command = [example, default_path(), GOLDEN / "coffee-edge_more.uigc"]
        subprocess.run(command, env=cpp.environment() | places | wishes, stdout=subprocess.DEVNULL, check=True)
        found[wish] = len(list(home.iterdir()))
    if not found["0"]:
        pytest.skip("this build of ONNX Runtime has no telemetry")
    assert found[None] == 0


@pytest.mark.skipif(CLANG is None, reason="needs clang")
def test_clang(tmp_path: Path) -> None:
    codec, decode, _ = cpp.compile_all(tmp_path / "made", str(CLANG), "-O1")
    program = cpp.link(tmp_path / "uigc-decode", str(CLANG), [codec, decode])
    found = cpp.grid_of(program, default_path(), GOLDEN / "coffee-edge_more+draw7.uigc")
    assert np.array_equal(found.grid, json.loads((GOLDEN / "coffee.json").read_text())["grids"]["edge_more+draw7"])


def test_headers_newer_than_the_library(tmp_path: Path) -> None:
    """One sentence, where ONNX Runtime's own way would be a crash before main()."""
    include = Path(shutil.copytree(cpp.onnxruntime_root() / "include", tmp_path / "include"))
    header = include / "onnxruntime_c_api.h"
    text, count = re.subn(r"(#define ORT_API_VERSION) \d+", r"\1 999", header.read_text(encoding="utf-8"))
    assert count == 1
    header.write_text(text, encoding="utf-8")
    codec, decode, _ = cpp.compile_all(tmp_path / "made", CLANG or str(cpp.COMPILER), "-O0", include=include)
    program = cpp.link(tmp_path / "uigc-decode", str(cpp.COMPILER), [codec, decode])
    found = cpp.run(program, default_path(), GOLDEN / "coffee-edge.uigc", tmp_path / "out.ppm")
    assert (found.code, found.message.count("\n")) == (ExitCode.PROVIDER, 1)
    assert "and 1.999 or later was expected" in found.message
