"""Compiled models and optimized graphs in the cache: the very ones that were kept, of the very graph, or none.

OpenVINO itself takes a model with a changed weight and computes other logits, and so does ONNX Runtime.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from tests.support.paths import ROOT
from tests.support.tiny import stage_of
from uigc.runtime import providers
from uigc.runtime.bundle import Bundle, manifest
from uigc.runtime.bundle.seal import sealed
from uigc.runtime.exactness.conformance import Case
from uigc.runtime.exactness.verify import examine
from uigc.runtime.providers import Graph, ProviderOptions, compiled_models, openvino, optimized_graphs

GOLDEN = ROOT / "tests" / "golden"
pytestmark = pytest.mark.usefixtures("cache")
ON_CPU = "CPUExecutionProvider"
TOKENS = np.random.default_rng(5).integers(0, 16, (1, 8, 8), dtype=np.int32)


@dataclass(frozen=True)
class Kind:
    """A provider that keeps what it made of a graph, and what it calls only to make it anew."""

    provider: str
    key_of: Callable[[Path], bytes]
    anew: tuple[object, str]

    def load(self, path: Path) -> Graph:
        return providers.find(self.provider).load(path, ProviderOptions())


KINDS = [
    Kind("cpu", lambda path: optimized_graphs.key_of(path, "all", ON_CPU), (optimized_graphs, "_optimized")),
    Kind(
        "openvino",
        lambda path: openvino.key_of(path, openvino.settings_of(ProviderOptions())),
        (openvino, "_compile"),
    ),
]


@pytest.fixture(params=KINDS, ids=lambda kind: kind.provider)
def kind(request: pytest.FixtureRequest) -> Kind:
    if importlib.util.find_spec(request.param.provider) is None and request.param.provider != "cpu":
        pytest.skip(f"{request.param.provider} is not installed")
    return request.param


@pytest.fixture(scope="module")
def bundle(tiny_path: Path) -> Bundle:
    return Bundle.load(tiny_path)


def test_every_stage_of_the_default_bundle_is_exact_made_and_kept(
    kind: Kind, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against what the graphs return as they are."""
    shipped, runner = Bundle.load(recompute=False), providers.find(kind.provider)
    solved = [
        Case(vector["stage"], np.array(vector["tokens"], np.int32), reference(shipped, vector))
        for vector in json.loads((GOLDEN / "logits.json").read_text())["vectors"]
    ]
    shutil.rmtree(cache, ignore_errors=True)
    precisions = shipped.precisions("stage0")
    for kept in (False, True):
        if kept:
            monkeypatch.setattr(*kind.anew, None)  # everything is taken from the cache
        for precision in precisions:
            outcome = examine(shipped, runner, precision, ProviderOptions(threads=2), solved)
            assert (outcome.different, outcome.error) == (0, None)
        assert len(list(cache.iterdir())) == 6 * len(precisions)


def reference(bundle: Bundle, vector: dict) -> np.ndarray:
    """What a graph returns as it is on ``cpu``, of which test_golden.py shows that it is the reference's."""
    options = ProviderOptions(optimization=optimized_graphs.AS_IT_IS)
    graph = providers.find("cpu").load(bundle.graph(f"stage{vector['stage']}"), options)
    return graph(np.array(vector["tokens"], np.int32))


@pytest.mark.parametrize("name", ["encoder", "decoder"])
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_pixel_networks_give_the_same_made_and_kept(
    kind: Kind, monkeypatch: pytest.MonkeyPatch, name: str, precision: str
) -> None:
    rng = np.random.default_rng(3)
    image, tokens = rng.integers(0, 256, (1, 64, 96, 3), np.uint8), rng.integers(0, 256, (1, 4, 6), np.int32)
    path = Bundle.load(recompute=False).graph(name, precision)
    made = kind.load(path)(image if name == "encoder" else tokens)
    monkeypatch.setattr(*kind.anew, None)
    assert np.array_equal(kind.load(path)(image if name == "encoder" else tokens), made)


def other_bundle(bundle: Bundle, folder: Path) -> Bundle:
    """A bundle with the same graphs and other weights of the same shapes."""
    copied = Path(shutil.copytree(bundle.path, folder))
    weights = copied / manifest.WEIGHTS
    data = bytearray(weights.read_bytes())
    data[-1000:] = bytes(1000)
    weights.write_bytes(data)
    content = json.loads((copied / "manifest.json").read_text())
    content["weights"]["sha256"] = manifest.sha256(weights)
    (copied / "manifest.json").write_bytes(sealed(content))
    return Bundle(copied, content, bundle.schedule)


def test_other_weights_are_another_model(kind: Kind, bundle: Bundle, cache: Path, tmp_path: Path) -> None:
    other = other_bundle(bundle, tmp_path / "other")
    for each in (bundle, other, bundle, other):
        kind.load(stage_of(each))
    assert len(list(cache.iterdir())) == 2


@pytest.mark.parametrize("what", ["short", "flipped", "empty", "another's", "writable"])
def test_one_that_is_not_as_it_was_kept_is_made_anew(
    kind: Kind, bundle: Bundle, cache: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    expected = kind.load(stage_of(bundle))(TOKENS)
    (kept,) = cache.iterdir()
    good = kept.read_bytes()
    data = bytearray(good)
    if what == "flipped":
        middle = len(data) // 2
        data[middle : middle + 2000] = bytes(255 - each for each in data[middle : middle + 2000])
    elif what == "another's":
        kind.load(stage_of(bundle, 4))
        (other,) = set(cache.iterdir()) - {kept}
        data = bytearray(other.read_bytes())
    kept.write_bytes({"short": data[:-1], "empty": b""}.get(what, data))
    if what == "writable":
        kept.chmod(0o666)
    os.utime(kept, (1, 1))
    assert np.array_equal(kind.load(stage_of(bundle))(TOKENS), expected)
    assert kept.stat().st_mtime > 1  # written anew
    assert kept.read_bytes()[compiled_models.DIGEST :][:8] == good[compiled_models.DIGEST :][:8]
    monkeypatch.setattr(*kind.anew, None)
    kind.load(stage_of(bundle))  # takes the new one


def test_one_that_the_library_does_not_take_is_made_anew(kind: Kind, bundle: Bundle, cache: Path) -> None:
    expected = kind.load(stage_of(bundle))(TOKENS)
    (kept,) = cache.iterdir()
    compiled_models.write(kind.key_of(stage_of(bundle)), b"no model")
    assert list(cache.iterdir()) == [kept]
    assert np.array_equal(kind.load(stage_of(bundle))(TOKENS), expected)
    assert kept.stat().st_size > 1000


def test_a_graph_that_was_replaced_meanwhile_is_not_kept(
    kind: Kind, bundle: Bundle, cache: Path, tmp_path: Path
) -> None:
    copied = Bundle.load(shutil.copytree(bundle.path, tmp_path / "copied"))
    shutil.copy(stage_of(bundle, 3, "fp32"), stage_of(copied))
    kind.load(stage_of(copied))
    assert list(cache.glob("*")) == []


@pytest.mark.skipif(os.name != "posix", reason="permissions")
def test_a_cache_that_can_only_be_read_works(
    kind: Kind, bundle: Bundle, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind.load(stage_of(bundle))
    (kept,) = cache.iterdir()
    os.utime(kept, (1, 1))

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError("read-only file system")

    for name in ("utime", "replace"):
        monkeypatch.setattr(os, name, refuse)
    monkeypatch.setattr(*kind.anew, None)
    kind.load(stage_of(bundle))
    monkeypatch.undo()
    monkeypatch.setattr(compiled_models, "cache_folder", lambda: tmp_path / "file" / "cache")
    (tmp_path / "file").touch()
    assert kind.load(stage_of(bundle))(TOKENS).size


def test_a_cache_that_is_full_works(bundle: Bundle, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ONNX Runtime cannot write what a graph became, and nothing is left of it."""
    cache.mkdir(parents=True)
    with monkeypatch.context() as patch:
        patch.setattr(compiled_models, "named_part", lambda folder: nullcontext(Path("/dev/full/absent")))
        assert KINDS[0].load(stage_of(bundle))(TOKENS).size
    assert list(cache.iterdir()) == []
    KINDS[0].load(stage_of(bundle))
    assert [path.suffix for path in cache.iterdir()] == [compiled_models.SUFFIX]


def test_another_execution_provider_has_another_key(bundle: Bundle) -> None:
    keys = {optimized_graphs.key_of(stage_of(bundle), "all", each) for each in (ON_CPU, "XnnpackExecutionProvider")}
    assert len(keys) == 2


def test_a_graph_as_it_is_is_not_kept(bundle: Bundle, cache: Path) -> None:
    providers.find("cpu").load(stage_of(bundle), ProviderOptions(optimization=optimized_graphs.AS_IT_IS))
    assert not cache.exists()


@pytest.mark.parametrize("what", ["processor_flags", "processor_name", "machine_name"])
def test_another_machine_has_another_key(bundle: Bundle, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    """A folder may be shared by machines, and blocks of weights depend on the instructions of the processor."""
    here = optimized_graphs.key_of(stage_of(bundle), "all", ON_CPU)
    monkeypatch.setattr(compiled_models, what, lambda: "another")
    assert optimized_graphs.key_of(stage_of(bundle), "all", ON_CPU) != here
