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
from tests.support.tiny import tiny_cases
from uigc.runtime import providers
from uigc.runtime.bundle import Bundle, manifest
from uigc.runtime.bundle.seal import sealed
from uigc.runtime.codec import Codec
from uigc.runtime.errors import ProviderError, UsageError
from uigc.runtime.exactness.conformance import Case
from uigc.runtime.exactness.verify import examine, examine_all
from uigc.runtime.io.samples import SAMPLE
from uigc.runtime.progress import silent
from uigc.runtime.providers import ProviderOptions, compiled_models, openvino
from uigc.runtime.providers.openvino import OPENVINO

if importlib.util.find_spec("openvino") is None:
    pytest.skip("openvino (uigc[openvino]) is not installed", allow_module_level=True)

GOLDEN = ROOT / "tests" / "golden"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(compiled_models, "cache_folder", lambda: tmp_path / "cache")
    return tmp_path / "cache" / compiled_models.FOLDER


@pytest.fixture(scope="module")
def bundle(tiny_path: Path) -> Bundle:
    return Bundle.load(tiny_path)


@pytest.fixture(scope="module")
def cases(bundle: Bundle) -> list[Case]:
    return tiny_cases(bundle, 40)


def stage_of(bundle: Bundle, stage: int = 3, precision: str = "int8") -> Path:
    return bundle.graph(f"stage{stage}", precision)


def logits(path: Path, tokens: np.ndarray) -> np.ndarray:
    return OPENVINO.load(path, ProviderOptions())(tokens)


def test_every_setting_is_exact(bundle: Bundle, cases: list[Case]) -> None:
    outcomes = examine_all(bundle, [OPENVINO], cases, silent)
    assert {(each.precision, each.threads) for each in outcomes} == {
        (precision, threads) for precision in bundle.precisions("stage0") for threads in (None, 1, 2)
    }
    for outcome in outcomes:
        assert (outcome.different, outcome.error) == (0, None)
        assert outcome.values == sum(case.logits.size for case in cases)


def test_every_stage_of_the_default_bundle_is_exact_compiled_and_kept(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against the golden logits, which the reference computed."""
    shipped = Bundle.load(recompute=False)
    solved = [
        Case(vector["stage"], np.array(vector["tokens"], np.int32), logits)
        for vector in json.loads((GOLDEN / "logits.json").read_text())["vectors"]
        for logits in [reference(shipped, vector)]
    ]
    precisions = shipped.precisions("stage0")
    for kept in (False, True):
        if kept:
            monkeypatch.setattr(openvino, "_compile", None)  # everything is taken from the cache
        for precision in precisions:
            outcome = examine(shipped, OPENVINO, precision, ProviderOptions(threads=2), solved)
            assert (outcome.different, outcome.error) == (0, None)
        assert len(list(cache.iterdir())) == 6 * len(precisions)


def reference(bundle: Bundle, vector: dict) -> np.ndarray:
    """The logits on ``cpu``, of which test_golden.py shows that they are the reference's."""
    graph = providers.find("cpu").load(bundle.graph(f"stage{vector['stage']}"), ProviderOptions())
    return graph(np.array(vector["tokens"], np.int32))


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
    """Nothing is written but compiled models: OpenVINO's telemetry is off."""
    home = tmp_path / "home"
    home.mkdir()
    environment = {**os.environ, "HOME": str(home), "XDG_CACHE_HOME": str(home / "cache")}
    command = [*FORKING, tiny_path, "openvino", "both"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
    assert done.returncode == 0, done.stderr
    kept = home / "cache" / "uigc" / compiled_models.FOLDER
    assert [path.parent for path in home.rglob("*") if path.is_file()] == [kept] * 8


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


def test_other_weights_are_another_model(bundle: Bundle, cache: Path, tmp_path: Path) -> None:
    other = other_bundle(bundle, tmp_path / "other")
    for each in (bundle, other, bundle, other):
        OPENVINO.load(stage_of(each), ProviderOptions())
    assert len(list(cache.iterdir())) == 2


@pytest.mark.parametrize("what", ["short", "flipped", "empty", "another's", "writable"])
def test_a_kept_model_that_is_not_as_it_was_kept_is_compiled_anew(bundle: Bundle, cache: Path, what: str) -> None:
    """OpenVINO itself takes one with a changed weight, and computes other logits."""
    tokens = np.random.default_rng(5).integers(0, 16, (1, 8, 8), dtype=np.int32)
    expected = logits(stage_of(bundle), tokens)
    (kept,) = cache.iterdir()
    good = kept.read_bytes()
    data = bytearray(good)
    if what == "flipped":
        middle = len(data) // 2
        data[middle : middle + 2000] = bytes(255 - each for each in data[middle : middle + 2000])
    elif what == "another's":
        logits(stage_of(bundle, 4), tokens)
        (other,) = set(cache.iterdir()) - {kept}
        data = bytearray(other.read_bytes())
    kept.write_bytes({"short": data[:-1], "empty": b""}.get(what, data))
    if what == "writable":
        kept.chmod(0o666)
    before = kept.stat().st_ino
    assert np.array_equal(logits(stage_of(bundle), tokens), expected)
    assert kept.stat().st_ino != before  # written anew
    assert kept.read_bytes()[compiled_models.DIGEST :][:8] == good[compiled_models.DIGEST :][:8]


def test_a_model_that_openvino_does_not_take_is_compiled_anew(bundle: Bundle, cache: Path) -> None:
    tokens = np.zeros((1, 8, 8), np.int32)
    expected = logits(stage_of(bundle), tokens)
    (kept,) = cache.iterdir()
    key = openvino.key_of(stage_of(bundle), openvino.settings_of(ProviderOptions()))
    compiled_models.write(key, b"no model")
    assert list(cache.iterdir()) == [kept]
    assert np.array_equal(logits(stage_of(bundle), tokens), expected)
    assert kept.stat().st_size > 1000


def test_a_graph_that_was_replaced_meanwhile_is_not_kept(bundle: Bundle, cache: Path, tmp_path: Path) -> None:
    copied = Bundle.load(shutil.copytree(bundle.path, tmp_path / "copied"))
    shutil.copy(stage_of(bundle, 3, "fp32"), stage_of(copied))
    OPENVINO.load(stage_of(copied), ProviderOptions())
    assert not cache.exists()


@pytest.mark.skipif(os.name != "posix", reason="permissions")
def test_a_cache_that_can_only_be_read_works(
    bundle: Bundle, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    OPENVINO.load(stage_of(bundle), ProviderOptions())
    (kept,) = cache.iterdir()
    os.utime(kept, (1, 1))

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError("read-only file system")

    for name in ("utime", "replace"):
        monkeypatch.setattr(os, name, refuse)
    monkeypatch.setattr(openvino, "_compile", None)
    OPENVINO.load(stage_of(bundle), ProviderOptions())
    monkeypatch.undo()
    monkeypatch.setattr(compiled_models, "cache_folder", lambda: tmp_path / "file" / "cache")
    (tmp_path / "file").touch()
    assert logits(stage_of(bundle), np.zeros((1, 8, 8), np.int32)).size
