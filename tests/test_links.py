"""Bundles through links and caches: they load, or one true sentence says why not (docs/BUNDLE.md)."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from uigc.runtime import providers
from uigc.runtime.bundle import Bundle
from uigc.runtime.bundle.manifest import WEIGHTS
from uigc.runtime.cli import doctor
from uigc.runtime.codec import Codec
from uigc.runtime.errors import BundleError, ProviderError
from uigc.runtime.providers import ProviderOptions, compiled_models

PIXELS = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)


def linked_folder(real: Path, place: Path) -> Path:
    (place / "bundle").symlink_to(real)
    return place / "bundle"


def linked_files(real: Path, place: Path) -> Path:
    (place / "bundle").mkdir()
    for path in real.iterdir():
        (place / "bundle" / path.name).symlink_to(path)
    return place / "bundle"


def hub(real: Path, place: Path) -> Path:
    """As Hugging Face's cache: a snapshot of relative links to blobs that are named by their hashes."""
    blobs, snapshot = place / "models--x--y" / "blobs", place / "models--x--y" / "snapshots" / "0123abc"
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for path in real.iterdir():
        name = hashlib.sha256(path.read_bytes()).hexdigest()
        shutil.copy(path, blobs / name)
        (snapshot / path.name).symlink_to(os.path.relpath(blobs / name, snapshot))
    return snapshot


def volume(real: Path, place: Path) -> Path:
    """As a Kubernetes volume: links through one to a folder, which is replaced at once."""
    folder = place / "volume"
    shutil.copytree(real, folder / "..2026_01_01")
    (folder / "..data").symlink_to("..2026_01_01")
    for path in real.iterdir():
        (folder / path.name).symlink_to(Path("..data", path.name))
    return folder


def hard_links(real: Path, place: Path) -> Path:
    (place / "bundle").mkdir()
    for path in real.iterdir():
        shutil.copy(path, place / path.name)
        os.link(place / path.name, place / "bundle" / path.name)
    return place / "bundle"


@pytest.mark.parametrize("layout", [linked_folder, linked_files, hub, volume, hard_links])
def test_they_load(tiny_path: Path, tiny: Codec, tmp_path: Path, layout: Callable[[Path, Path], Path]) -> None:
    """With their hashes checked, and every graph run: encoder, stages and decoder."""
    with Codec(Bundle.load(layout(tiny_path, tmp_path)), threads=1) as codec:
        data = codec.compress(PIXELS)
        assert data == tiny.compress(PIXELS)
        assert np.array_equal(codec.decompress(data), tiny.decompress(data))


def test_weights_that_alone_are_a_link(tiny_path: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_path, tmp_path / "bundle"))
    (folder / WEIGHTS).unlink()
    (folder / WEIGHTS).symlink_to(tiny_path / WEIGHTS)
    with Codec(folder, threads=1) as codec, pytest.raises(ProviderError) as caught:
        codec.compress(PIXELS)
    sentence = str(caught.value)
    assert f"{folder / WEIGHTS} is a link to {tiny_path}, and ONNX Runtime reads weights only beside" in sentence
    assert "\n" not in sentence
    findings, problem = doctor.examine(folder)  # wherever another provider runs it, from what it compiled before
    assert (str(problem), findings["bundle"]["state"], findings["providers"]["cpu"]) == (
        sentence,
        sentence,
        f"cannot be loaded: {sentence}",
    )
    assert doctor.verdict(findings, problem).endswith(f" does not work here: {sentence}")


@pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="openvino (uigc[openvino]) is not installed")
def test_openvino_says_the_same(tiny_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It also refuses links of graph and weights to the same folder, which the verdict for ``cpu`` does not mind."""
    monkeypatch.setattr(compiled_models, "cache_folder", lambda: tmp_path / "cache")
    folder = linked_files(tiny_path, tmp_path)
    with pytest.raises(ProviderError, match=r"and OpenVINO reads weights only beside the graph; .*\(cp -rL\)"):
        providers.find("openvino").load(folder / "stage0.int8.onnx", ProviderOptions())
    findings, problem = doctor.examine(folder)
    assert (problem, findings["bundle"]["state"], findings["providers"]["cpu"]) == (None, "valid", "runs")
    assert "and OpenVINO reads" in findings["providers"]["openvino"]


def test_a_link_that_leads_nowhere(tiny_path: Path, tmp_path: Path) -> None:
    folder = linked_files(tiny_path, tmp_path)
    (folder / WEIGHTS).unlink()
    (folder / WEIGHTS).symlink_to(tmp_path / "absent")
    with pytest.raises(BundleError, match=WEIGHTS):
        Bundle.load(folder)


def test_a_link_that_is_turned_meanwhile(tiny_path: Path, tmp_path: Path) -> None:
    """As an update of a volume does it: nothing is returned that was computed with both."""
    folder = volume(tiny_path, tmp_path)
    with Codec(folder, threads=1) as codec:
        codec.compress(PIXELS)
        shutil.copytree(tiny_path, folder / "..2026_01_02")
        (folder / "..new").symlink_to("..2026_01_02")
        (folder / "..new").rename(folder / "..data")
        with pytest.raises(BundleError, match="was changed while the bundle was in use"):
            codec.compress(PIXELS)
