"""The measured choice is stored for this machine and this bundle, and is only ever a default."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from uigc.runtime import environment, providers, tuning_cache
from uigc.runtime.bundle import Bundle
from uigc.runtime.cli import autotune
from uigc.runtime.cli.doctor import examine
from uigc.runtime.cli.main import main
from uigc.runtime.codec import Codec
from uigc.runtime.errors import ExitCode, InexactError, ProviderError
from uigc.runtime.exactness.reference import with_sums
from uigc.runtime.format.entropy_coder import weight_table
from uigc.runtime.io.samples import SAMPLE
from uigc.runtime.progress import silent
from uigc.runtime.providers import Graph, Provider, ProviderOptions, base


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tuning_cache, "cache_folder", lambda: tmp_path / "cache")
    monkeypatch.setattr(autotune, "ROUNDS", 1)
    monkeypatch.setattr(autotune, "GRID", (8, 8))
    monkeypatch.delenv(tuning_cache.IGNORE, raising=False)
    return tmp_path / "cache"


class Shifted(Graph):
    def __init__(self, graph: Graph, off: int) -> None:
        self.graph, self.off = graph, off

    def __call__(self, value: NDArray[Any]) -> NDArray[Any]:
        found = self.graph(value)
        return with_sums(np.roll(found[..., :16], self.off, -1), weight_table()) if self.off else found


class Other(Provider):
    """The provider ``cpu`` under another name, which may be slower, wrong, or not there."""

    name = "other"
    missing: str | None = None
    off = 0
    verified: tuple[str, ...] = ("fp32", "int8")
    on_gpu = False

    def problem(self) -> str | None:
        return self.missing

    def load(self, path: Path, options: ProviderOptions) -> Graph:
        graph = providers.find("cpu").load(path, options)
        return Shifted(graph, self.off) if "stage" in path.name else graph


@pytest.fixture
def other(monkeypatch: pytest.MonkeyPatch) -> Other:
    found, load = Other(), base.loaded
    monkeypatch.setattr(base, "loaded", lambda name: found if name == "other" else load(name))
    return found


@pytest.fixture
def used(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The providers of the codecs that commands make."""
    names: list[str] = []
    make = Codec.__init__

    def note(self: Codec, *arguments: object, **options: object) -> None:
        names.append(str(options.get("provider", "cpu")))
        make(self, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Codec, "__init__", note)
    return names


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


def test_only_precisions_that_the_provider_runs_are_measured(tiny: Codec, other: Other) -> None:
    """Engines of a folder may be of one precision alone."""
    other.verified = ("int8",)
    assert set(autotune.tune(tiny.bundle, "other", [], silent)["milliseconds"]) == {"int8"}
    other.verified = ("fp16",)
    with pytest.raises(ProviderError, match="'other' runs stages in fp16, and the bundle has them in fp32 and int8"):
        autotune.tune(tiny.bundle, "other", [], silent)


def test_a_device_is_that_of_the_providers_on_gpus(
    tiny: Codec, other: Other, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The second GPU and the CPU are compared; a device for none of them is refused."""
    devices, load = [], Other.load

    def note(self: Other, path: Path, options: ProviderOptions) -> Graph:
        devices.append(options.device)
        return load(self, path, options)

    monkeypatch.setattr(Other, "load", note)
    command = ["doctor", "--tune", "--provider", "cpu", "other", "--device", "1", "--bundle", str(tiny.bundle.path)]
    assert main(command) == ExitCode.USAGE
    assert "runs on no GPU, and device 1 was asked for" in capsys.readouterr().err
    assert devices == []
    other.on_gpu = True
    assert main(command) == 0
    assert set(devices) == {1}


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


def test_the_fastest_provider_of_those_named_becomes_the_default(
    tiny: Codec, cache: Path, other: Other, used: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = ["--bundle", str(tiny.bundle.path)]
    compress = ["compress", str(SAMPLE), "-o", str(tmp_path / "one.uigc"), "--force", *bundle]
    assert main(["doctor", "--tune", *bundle]) == 0
    assert not tuning_cache.read_provider(tiny.bundle)  # a provider that nobody named is not compared
    assert main(["doctor", "--tune", "--provider", "cpu", "other", *bundle]) == 0
    found = tuning_cache.read_provider(tiny.bundle)
    assert set(found["milliseconds"]) == {"cpu", "other"}
    assert found["provider"] == min(found["milliseconds"], key=found["milliseconds"].__getitem__)
    assert f"by default          {found['provider']} (cpu " in capsys.readouterr().out

    tuning_cache.write_provider(tiny.bundle, "other", {"cpu": 2.0, "other": 1.0})
    used.clear()
    for command, provider in ((compress, "other"), ([*compress, "--provider", "cpu"], "cpu")):
        assert main(command) == 0
        assert used.pop(0) == provider
        used.clear()
    assert Codec(tiny.bundle)._provider == "cpu"  # programs get what they ask for
    assert main(["doctor", "--tune", "--provider", "cpu", *bundle]) == 0
    used.clear()
    assert main(compress) == 0
    assert used == ["cpu"]


def test_a_file_on_a_provider_by_default_is_read_back(
    tiny: Codec, cache: Path, other: Other, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other.off = 1
    tuning_cache.write_provider(tiny.bundle, "other", {"other": 1.0})
    output = tmp_path / "one.uigc"
    assert main(["compress", str(SAMPLE), "-o", str(output), "--bundle", str(tiny.bundle.path)]) != 0
    assert "other" in capsys.readouterr().err
    assert not output.exists()


@pytest.mark.parametrize("names", [[], ["a second one"]])  # of many, cores are divided before the codec is made
def test_a_provider_by_default_that_is_gone(
    tiny: Codec, cache: Path, other: Other, used: list[str], names: list[str], tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    other.missing = "There is no device."
    tuning_cache.write_provider(tiny.bundle, "other", {"other": 1.0})
    inputs = []
    for name in ["one", *names]:
        inputs.append(tmp_path / f"{name}.webp")
        inputs[-1].write_bytes(SAMPLE.read_bytes())
    bundle = ["--bundle", str(tiny.bundle.path)]
    assert main(["compress", *map(str, inputs), "-o", f"{tmp_path}/out/", *bundle]) == 0
    assert used == ["cpu"]
    error = capsys.readouterr().err
    assert error.count("other, which 'uigc doctor --tune' chose, is not used: There is no device.") == 1
    with pytest.raises(ProviderError, match="no device"):
        Codec(tiny.bundle, provider="other")


def test_a_provider_is_not_the_default_after_an_upgrade(
    tiny: Codec, cache: Path, other: Other, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tuning_cache.write_provider(tiny.bundle, "other", {"other": 1.0})
    another = Bundle(tiny.bundle.path, {**tiny.bundle.manifest, "opset": 99}, tiny.bundle.schedule)
    assert not tuning_cache.read_provider(another)
    monkeypatch.setattr(tuning_cache, "package_version", lambda package: "9.9")
    assert not caplog.records
    assert not tuning_cache.read_provider(tiny.bundle)
    (record,) = caplog.records
    assert "packages have changed" in record.getMessage()
    monkeypatch.setenv(tuning_cache.IGNORE, "0")
    assert not tuning_cache.read_provider(tiny.bundle)
    assert len(caplog.records) == 1


@pytest.mark.parametrize("text", ["", "[]", "{", "{}", '{"provider": 5}', '{"provider": "other"}'])
def test_a_choice_of_the_provider_may_be_broken(tiny: Codec, cache: Path, text: str) -> None:
    tuning_cache.write_provider(tiny.bundle, "other", {"other": 1.0})
    rewrite(cache, text)
    assert not tuning_cache.read_provider(tiny.bundle)


def test_an_inexact_provider_is_not_chosen(tiny: Codec, cache: Path, other: Other) -> None:
    other.off = 1
    with pytest.raises(InexactError, match="'other' is not chosen: The "):
        autotune.choose_provider(tiny.bundle, ["cpu", "other"], silent)
    assert not cache.exists()


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
