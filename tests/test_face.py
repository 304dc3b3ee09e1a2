"""The public face: ``from uigc import ...``, light until a name is used."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest

import uigc
from tests.support.paths import ROOT


def test_members_are_what_their_homes_define() -> None:
    assert sorted(uigc.__all__) == uigc.__all__
    for name, home in uigc._HOMES.items():
        assert getattr(uigc, name) is getattr(import_module(home), name)
    assert uigc.__version__ == version("uigc")
    assert {*uigc._HOMES, "__version__"} == set(uigc.__all__) <= set(dir(uigc))


def test_nothing_else_is_there() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Kodec'"):
        _ = uigc.Kodec


def test_importing_it_loads_nothing_heavy() -> None:
    code = "import uigc, sys; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"numpy", "PIL", "constriction", "onnxruntime", "argparse"} & set(loaded)
    assert not [name for name in loaded if name.startswith("uigc.")]


def test_a_header_needs_neither_numpy_nor_a_bundle() -> None:
    code = "import sys; from uigc import read_header; print(read_header(sys.stdin.buffer.read())); print(*sys.modules)"
    file = (ROOT / "tests" / "golden" / "coffee-edge.uigc").read_bytes()
    header, loaded = (
        subprocess.run([sys.executable, "-c", code], input=file, capture_output=True, check=True)
        .stdout.decode()
        .splitlines()
    )
    assert header.startswith("Header(width=")
    assert not {"numpy", "PIL", "constriction", "onnxruntime"} & set(loaded.split())


def test_the_codec_in_one_call(tmp_path: Path) -> None:
    """What these functions return is what a default codec returns."""
    pixels = np.random.default_rng(0).integers(0, 256, (20, 36, 3), np.uint8)
    data = uigc.compress(pixels, "edge_more")
    assert data == uigc.Codec().compress(pixels, "edge_more")
    (tmp_path / "x.uigc").write_bytes(data)
    with open(tmp_path / "x.uigc", "rb") as file:
        header = uigc.info(file)
    assert header == uigc.info(tmp_path / "x.uigc") == uigc.read_header(memoryview(data)) == uigc.read_header(data)
    assert (header.width, header.height, header.mode.label) == (36, 20, "edge_more")
    assert np.array_equal(uigc.decompress(tmp_path / "x.uigc"), uigc.Codec().decompress(data))
