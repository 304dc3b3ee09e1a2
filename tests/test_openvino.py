"""The provider ``openvino``: the logits of the reference, from a compiled model and from one that was kept."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from tests.support.forking import FORKING
from tests.support.paths import ROOT
from tests.support.tiny import stage_of, tiny_cases
from uigc.runtime import providers
from uigc.runtime.bundle import Bundle
from uigc.runtime.codec import Codec
from uigc.runtime.errors import ProviderError, UsageError
from uigc.runtime.exactness.conformance import Case
from uigc.runtime.exactness.verify import examine_all
from uigc.runtime.io.samples import SAMPLE
from uigc.runtime.progress import silent
from uigc.runtime.providers import ProviderOptions, compiled_models, openvino
from uigc.runtime.providers.openvino import OPENVINO

if importlib.util.find_spec("openvino") is None:
    pytest.skip("openvino (uigc[openvino]) is not installed", allow_module_level=True)

GOLDEN = ROOT / "tests" / "golden"
pytestmark = pytest.mark.usefixtures("cache")


@pytest.fixture(scope="module")
def bundle(tiny_path: Path) -> Bundle:
    return Bundle.load(tiny_path)


@pytest.fixture(scope="module")
def cases(bundle: Bundle) -> list[Case]:
    return tiny_cases(bundle, 40)


def logits(path: Path, tokens: np.ndarray) -> np.ndarray:
    return OPENVINO.load(path, ProviderOptions())(tokens)


def test_every_setting_is_exact(bundle: Bundle, cases: list[Case]) -> None:
    outcomes = examine_all(bundle, [OPENVINO], cases, silent)
    assert {(each.precision, each.threads) for each in outcomes} == {
        (precision, threads) for precision in bundle.precisions("stage0") for threads in (None, 1, 2)
    }
    for outcome in outcomes:
        assert (outcome.different, outcome.error) == (0, None)
        assert outcome.values == sum(case.predictions.size for case in cases)


def test_golden_files_decode_and_encode() -> None:
    golden = json.loads((GOLDEN / "coffee.json").read_text())
    with Codec(provider="openvino", threads=2) as codec, Codec(threads=2) as plain:
        assert (codec.precision, codec.pixel_precision) == ("int8", "int8")
        for label, grid in golden["grids"].items():
            data = (GOLDEN / f"coffee-{label}.uigc").read_bytes()
            assert codec.decode_tokens(data).tolist() == grid
        data = codec.compress(SAMPLE)
        assert np.array_equal(codec.decode_tokens(data), plain.decode_tokens(data))
        image, same = codec.decompress(data), plain.decompress(data)
        assert image.shape == same.shape
        assert np.abs(image.astype(int) - same).mean() < 1


@pytest.mark.parametrize("name", ["encoder", "decoder"])
def test_pixel_networks_give_what_the_other_provider_gives(bundle: Bundle, name: str) -> None:
    rng = np.random.default_rng(3)
    image, tokens = rng.integers(0, 256, (2, 64, 48, 3), np.uint8), rng.integers(0, 16, (2, 4, 3), np.int32)
    value = image if name == "encoder" else tokens
    found, expected = (
        providers.find(provider).load(bundle.graph(name), ProviderOptions())(value) for provider in ("openvino", "cpu")
    )
    assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
    assert (found == expected).all() if name == "encoder" else np.abs(found.astype(int) - expected).max() <= 1


def test_results_belong_to_the_caller(bundle: Bundle) -> None:
    graph = OPENVINO.load(stage_of(bundle), ProviderOptions())
    one, two = (np.full((1, 8, 8), value, np.int32) for value in (1, 2))
    first = graph(one)
    kept = first.copy()
    second = graph(two)
    assert first.flags.writeable
    assert not np.shares_memory(first, second)
    assert np.array_equal(first, kept)


@pytest.mark.parametrize("threads", [1, 2])
def test_threads_are_those_that_were_asked_for(bundle: Bundle, threads: int) -> None:
    if threads > len(os.sched_getaffinity(0)):
        pytest.skip("this machine has fewer cores")
    asked = openvino.settings_of(ProviderOptions(threads=threads))
    for _ in ("compiled", "kept"):
        model = OPENVINO.model(stage_of(bundle), asked)
        assert model.get_property("INFERENCE_NUM_THREADS") == threads
        assert model.get_property("INFERENCE_PRECISION_HINT").get_type_name() == "f32"
        assert model.get_property("DYNAMIC_QUANTIZATION_GROUP_SIZE") == 0


def test_a_model_that_computes_in_bfloat16_is_refused(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """As OpenVINO does by itself, on processors that can."""
    monkeypatch.setitem(openvino.EXACT, "INFERENCE_PRECISION_HINT", "bf16")
    if "BF16" not in openvino.capabilities():
        pytest.skip("this processor has no bfloat16")
    with pytest.raises(ProviderError, match="asked to compute in f32 and says that it computes in bf16"):
        OPENVINO.load(stage_of(bundle), ProviderOptions())


def test_one_codec_in_eight_threads(tiny_path: Path) -> None:
    images = [np.random.default_rng(seed).integers(0, 256, (40 + seed, 50, 3), np.uint8) for seed in range(12)]
    with Codec(tiny_path, provider="openvino") as codec, Codec(tiny_path) as plain, ThreadPoolExecutor(8) as pool:
        files = list(pool.map(codec.compress, images))
        for data, grid in zip(files, pool.map(codec.decode_tokens, files), strict=True):
            assert np.array_equal(grid, plain.decode_tokens(data))


@pytest.mark.skipif(sys.platform != "linux", reason="forks")
def test_a_forked_child_and_a_home_that_stays_empty(tiny_path: Path, tmp_path: Path) -> None:
    """Nothing is written but compiled models, and what ``cpu`` makes of the stages for reading back: OpenVINO's
    telemetry is off."""
    home = tmp_path / "home"
    home.mkdir()
    environment = {**os.environ, "HOME": str(home), "XDG_CACHE_HOME": str(home / "cache")}
    command = [*FORKING, tiny_path, "openvino", "both"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
    assert done.returncode == 0, done.stderr
    kept = home / "cache" / "uigc" / compiled_models.FOLDER
    assert [path.parent for path in home.rglob("*") if path.is_file()] == [kept] * (8 + 6)


def test_a_closed_graph_says_so(bundle: Bundle) -> None:
    graph = OPENVINO.load(stage_of(bundle), ProviderOptions())
    graph.close()
    with pytest.raises(UsageError, match="closed"):
        graph(np.zeros((1, 8, 8), np.int32))


def test_errors_are_one_sentence(bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = OPENVINO.load(stage_of(bundle), ProviderOptions())
    with pytest.raises(ProviderError, match=r"failed on an input of \(1, 7, 5\): [^\n]*node_view[^\n]*$"):
        graph(np.zeros((1, 7, 5), np.int32))
    broken = shutil.copytree(bundle.path, tmp_path / "broken")
    (broken / "stage4.int8.onnx").write_bytes(b"no graph")
    with pytest.raises(ProviderError, match=r"could not load stage4.int8.onnx: [^\n]*; check the bundle"):
        OPENVINO.load(broken / "stage4.int8.onnx", ProviderOptions())
