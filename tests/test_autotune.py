"""The measured choice is stored for this machine and this bundle, and is only ever a default."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from uigc.runtime import environment, tuning_cache
from uigc.runtime.bundle import Bundle
from uigc.runtime.cli import autotune
from uigc.runtime.cli.doctor import examine
from uigc.runtime.codec import Codec
from uigc.runtime.errors import InexactError
from uigc.runtime.progress import silent
from uigc.runtime.providers import Graph, Provider, ProviderOptions


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tuning_cache, "cache_folder", lambda: tmp_path / "cache")
    monkeypatch.setattr(autotune, "ROUNDS", 1)
    monkeypatch.setattr(autotune, "GRID", (8, 8))
    monkeypatch.delenv(tuning_cache.IGNORE, raising=False)
    return tmp_path / "cache"


def rewrite(cache: Path, text: str) -> None:
    (path,) = cache.iterdir()
    path.write_text(text)


def test_the_fastest_becomes_the_default(tiny: Codec, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = tiny.bundle
    assert Codec(bundle).precision == "int8"  # the provider's choice
    result = autotune.tune(bundle, "cpu", [], silent)
    assert set(result["milliseconds"]) == {"fp32", "int8"}
    assert result["milliseconds"][result["precision"]] == min(result["milliseconds"].values())
    assert "pixel_precision" not in result
    rewrite(cache, json.dumps({**result, "precision": "fp32"}))
    assert Codec(bundle).precision == "fp32"
    assert Codec(bundle, precision="int8").precision == "int8"  # a precision that was asked for is not replaced
    assert Codec(bundle).pixel_precision == "fp32"
    findings, _ = examine(bundle.path)
    assert findings["tuned"]["cpu"].startswith("prior: fp32 (fp32 ")
    assert "stage5" in findings["nodes"]["int8"]
    monkeypatch.setenv(tuning_cache.IGNORE, "0")
    assert Codec(bundle).precision == "int8"


def test_pixel_networks_only_in_allowed_precisions(tiny: Codec, cache: Path) -> None:
    result = autotune.tune(tiny.bundle, "cpu", ["fp16", "int8"], silent)
    assert set(result["pixel_milliseconds"]) == {"fp16"}  # the tiny bundle is not calibrated
    assert Codec(tiny.bundle).pixel_precision == "fp16"


def test_another_bundle_or_other_packages_measure_for_themselves(
    tiny: Codec, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    autotune.tune(tiny.bundle, "cpu", [], silent)
    assert tuning_cache.read(tiny.bundle, "cpu")
    assert not tuning_cache.read(tiny.bundle, "cuda")
    other = Bundle(tiny.bundle.path, {**tiny.bundle.manifest, "opset": 99}, tiny.bundle.schedule)
    assert not tuning_cache.read(other, "cpu")
    monkeypatch.setattr(tuning_cache, "package_version", lambda package: "9.9")
    assert not tuning_cache.read(tiny.bundle, "cpu")


@pytest.mark.parametrize("text", ["", "[]", "{", '{"precision": "fp8"}', '{"precision": 5}'])
def test_what_is_kept_may_be_broken(tiny: Codec, cache: Path, text: str) -> None:
    autotune.tune(tiny.bundle, "cpu", [], silent)
    rewrite(cache, text)
    assert Codec(tiny.bundle).precision == "int8"


def test_an_inexact_precision_is_not_tuned(tiny: Codec, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Inexact(Provider):
        name = "cpu"

        def problem(self) -> str | None:
            return None

        def load(self, path: Path, options: ProviderOptions) -> Graph:
            off = int("int8" in path.name)
            return lambda value: np.zeros((1, 4, 16), np.int32) + off

    monkeypatch.setattr(autotune.providers, "find", lambda name: Inexact())
    with pytest.raises(InexactError, match="do not give the same logits"):
        autotune.tune(tiny.bundle, "cpu", [], silent)
    assert list(cache.iterdir()) == []


def test_the_cache_folder_is_that_of_the_platform(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(environment.sys, "platform", "linux")
    assert environment.cache_folder() == tmp_path / "uigc"
    monkeypatch.setattr(environment.sys, "platform", "darwin")
    assert environment.cache_folder().parts[-3:] == ("Library", "Caches", "uigc")
    monkeypatch.setattr(environment.sys, "platform", "win32")
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path))
    assert environment.cache_folder() == tmp_path / "uigc" / "Cache"
