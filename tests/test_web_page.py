"""The page in headless Chromium: files dropped and linked, with threads and without."""

from __future__ import annotations

import hashlib
import json
import subprocess
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import numpy as np
import pytest
from PIL import Image

from tests.support.paths import ROOT
from tests.support.web import WEB, chromium, web
from uigc.bench import browser
from uigc.export.decoder_only import write_decoder
from uigc.fuzz.corpus import CORPUS
from uigc.runtime.bundle import Bundle
from uigc.runtime.codec import Codec
from uigc.runtime.errors import InexactError
from uigc.runtime.io import image
from uigc.runtime.io.samples import SAMPLE
from uigc.runtime.token_codec import Encoded

GOLDEN = ROOT / "tests" / "golden"
FILE = GOLDEN / "coffee-edge.uigc"


@pytest.fixture(scope="module")
def decoder_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("page") / "bundle"
    write_decoder(Bundle.load(), out, False, lambda text: None)
    return out


def served(bundle: Path, *options: str) -> AbstractContextManager[str]:
    return browser.served(WEB, bundle, *options)


def visit(address: str, folder: Path, *files: Path) -> dict[str, Any]:
    """Open the page, drop files on it, and return what it shows once it is done."""
    script, outputs = web() / "test" / "browser.js", [folder / "canvas.png", folder / "screenshot.png"]
    command = ["node", script, chromium(), address, *outputs, *files]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def golden_hash() -> str:
    grid = json.loads((GOLDEN / "coffee.json").read_text())["grids"]["edge"]
    return hashlib.sha256(np.asarray(grid, "<i4").tobytes()).hexdigest()


def expect_picture(folder: Path, bundle: Path) -> None:
    """Check the canvas: pixels are free, but close to the package's."""
    with Codec(bundle, threads=1) as codec:
        expected = codec.decompress(FILE).astype(int)
    difference = np.abs(image.read((folder / "canvas.png").read_bytes()) - expected)
    assert difference.mean() < 0.25
    assert difference.max() <= 8


def test_a_dropped_file_with_threads(decoder_bundle: Path, tmp_path: Path) -> None:
    """An isolated page, and the original dropped beside the file."""
    chromium()
    with served(decoder_bundle) as address:
        found = visit(address, tmp_path, FILE, SAMPLE)
    assert (found["state"], found["hash"], found["isolated"]) == ("done", golden_hash(), True)
    assert found["complaints"] == []
    assert "This browser offers no WebGPU" in found["backend"]
    assert found["kept"] == 9  # the manifest, seven graphs and the weights
    expect_picture(tmp_path, decoder_bundle)


def test_a_link_without_threads(decoder_bundle: Path, tmp_path: Path) -> None:
    chromium()
    with served(decoder_bundle, "--no-isolation") as address:
        found = visit(f"{address}?file=sample.uigc&webgpu=0", tmp_path)
    assert (found["state"], found["hash"], found["isolated"]) == ("done", golden_hash(), False)
    assert found["complaints"] == []
    assert "with one thread" in found["backend"]
    expect_picture(tmp_path, decoder_bundle)


def test_a_hostile_file_is_refused_before_anything_is_downloaded(tmp_path: Path) -> None:
    chromium()
    with served(tmp_path / "no bundle") as address:
        found = visit(address, tmp_path, CORPUS / "files" / "payload-cut.uigc")
        missing = visit(address, tmp_path, FILE)
    assert found["state"] == "error CorruptFileError"
    assert found["error"].endswith("get it anew.")
    assert found["kept"] == 0
    assert missing["state"] == "error BundleError"
    assert "manifest.json is not there (HTTP 404)" in missing["error"]


def test_the_bench(decoder_bundle: Path, tmp_path: Path) -> None:
    chromium()
    Image.fromarray(image.read(SAMPLE.read_bytes())[:64, :96]).save(tmp_path / "one.png")
    output = tmp_path / "browser.json"
    browser.main([*map(str, (web(), decoder_bundle, tmp_path)), "--threads", "1", "--json", str(output)])
    result = json.loads(output.read_text())
    (row,) = result["runs"]
    assert row["agreement"]["files"] == len(result["masks"])
    assert row["agreement"]["largest_difference"] <= 8
    assert row["threads"] == 1
    assert min(min(taken.values()) for taken in row["times"].values()) > 0


def test_a_browser_with_another_grid_is_reported(tmp_path: Path) -> None:
    grid, pixels = np.zeros((1, 2), np.int32), np.zeros((16, 32, 3), np.uint8)
    np.full((16, 32, 4), 2, np.uint8).tofile(tmp_path / "0")
    encoded = Encoded(b"", grid, np.ones((1, 2), bool))
    answer = {"hash": hashlib.sha256(grid.tobytes()).hexdigest()}
    assert browser.compare([answer], [(encoded, pixels)], tmp_path)["largest_difference"] == 2
    with pytest.raises(InexactError, match="another grid"):
        browser.compare([{"hash": "0"}], [(encoded, pixels)], tmp_path)


def test_the_page_states_its_run() -> None:
    result = json.loads((ROOT / "bench" / "results" / "browser.json").read_text(encoding="utf-8"))
    page = (ROOT / "docs" / "WEB.md").read_text(encoding="utf-8")
    assert browser.table(result) in page
    for row in result["runs"]:
        assert row["agreement"]["files"] == 96
        assert f"{row['agreement']['largest_difference']}/255" in page


def test_the_server_gives_nothing_else(decoder_bundle: Path) -> None:
    with served(decoder_bundle) as address:
        for path in ("", "uigc.js", "bundle/manifest.json", "sample.uigc"):
            with urlopen(address + path) as answer:
                assert answer.headers["Cross-Origin-Opener-Policy"] == "same-origin"
                assert answer.headers["Cross-Origin-Embedder-Policy"] == "require-corp"
                assert answer.read()
        for path in ("../README.md", "%2e%2e/README.md", "bundle/../../README.md", ".gitignore", "uigc/", "bundle/"):
            with pytest.raises(HTTPError, match="404"):
                urlopen(address + path)
