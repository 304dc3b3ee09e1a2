"""The stand-in for a GPU notices what would go wrong on a real one: faults put into the executor do not survive."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from onnxruntime.capi.onnxruntime_pybind11_state import InvalidArgument

from tests.support import fake_cuda, fake_gpu
from tests.support.paths import ROOT
from uigc.engines import backend, build, engine_set
from uigc.engines.profile import Profile
from uigc.runtime import providers
from uigc.runtime.bundle import Bundle
from uigc.runtime.providers import ProviderOptions

POISON = int.from_bytes(bytes([fake_cuda.POISON] * 4), "little", signed=True)  # what is in memory before the copy
UPLOAD = "            self.cuda.upload(self.address[self.input], given, self.stream)\n"
DONE = "            self.cuda.download(taken, self.address[self.output], self.stream)\n"
# File of engines/, what is right, what is put in its place, and how it dies.
MUTATIONS = {
    "a stale graph is kept when the shape changes": (
        "executor",
        "        self.drop_graph()\n        self.shape",
        "        self.shape",
        "Arrays are not equal",
    ),
    "the result is taken before the device has finished": (
        "executor",
        f"{DONE}            self.synchronize()\n",
        DONE,
        rf"{POISON} \(ACTUAL\)|x: array\(\[+{POISON}",  # as NumPy 2 says it, and as NumPy 1 does
    ),
    "the first run is captured": (
        "cuda_graph",
        "self._graph is None and self._warm and",
        "self._graph is None and",
        "the first run of a shape may allocate",
    ),
    "the input is uploaded after the run": ("executor", None, None, f"out of data bounds, idx={POISON}"),
    "TensorRT is given the stream's object": (
        "executor",
        "execute_async_v3(int(self.stream))",
        "execute_async_v3(self.stream)",
        "the number of a stream is needed",
    ),
    "the result is not copied for the caller": ("executor", "result = taken.copy()", "result = taken", "Arrays"),
}


def changed(name: str) -> dict[str, str]:
    """The source of the two files of a mutation, by their names; the empty name is no mutation."""
    sources = {
        file: (ROOT / "engines" / f"{file}.py").read_text(encoding="utf-8") for file in ("cuda_graph", "executor")
    }
    if name:
        file, right, wrong, _ = MUTATIONS[name]
        if right is None:
            _expect_once(sources[file], UPLOAD, DONE)
            sources[file] = sources[file].replace(UPLOAD, "").replace(DONE, UPLOAD + DONE)
        else:
            _expect_once(sources[file], right)
            sources[file] = sources[file].replace(right, wrong)
    return sources


def _expect_once(source: str, *texts: str) -> None:
    for text in texts:
        if source.count(text) != 1:
            raise LookupError(
                f"{text!r} is {source.count(text)} times in the source, and once is needed; mend MUTATIONS."
            )


def scenario(sources: dict[str, str], path: Path, patch: pytest.MonkeyPatch) -> None:
    """Run two shapes in turn on the mutated executor, and compare with ONNX Runtime."""
    modules = {}
    for file, source in sources.items():
        module = modules[file] = ModuleType(f"uigc.engines.{file}")
        patch.setitem(sys.modules, module.__name__, module)  # in their order: the second imports the first
        exec(compile(source, f"{file}.py", "exec"), vars(module))
    bundle, flavour = Bundle.load(path), backend.find("tensorrt")
    profiles = (Profile.parse("64x64..256x256"),)
    (wanted,) = engine_set.resolve_order(bundle, flavour, engine_set.Order("fp16", profiles, (), ("stage1",)))
    plan, built = build.build(bundle, flavour, wanted, profiles)
    reference = providers.find("cpu").load(bundle.graph("stage1", "fp32"), ProviderOptions())
    rng = np.random.default_rng(0)
    results = []
    with modules["executor"].Executor(flavour, plan, built) as run:
        for shape in ((1, 8, 16), (1, 8, 16), (1, 8, 16), (1, 8, 8), (1, 8, 8), (1, 8, 16)):
            value = rng.integers(0, 18, shape, dtype=np.int32)
            results.append((run(value), reference(value)))
        for found, right in results:
            np.testing.assert_array_equal(found, right)


def test_the_executor_passes(tiny_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trt = fake_gpu.install(monkeypatch, "tensorrt")
    scenario(changed(""), tiny_path, monkeypatch)
    assert trt.cuda.log.count("cudaGraphLaunch") == 3


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_mutation_dies(name: str, tiny_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_gpu.install(monkeypatch, "tensorrt")
    sources = changed(name)
    with pytest.raises((AssertionError, InvalidArgument), match=MUTATIONS[name][3]):  # the latter, of poison
        scenario(sources, tiny_path, monkeypatch)


def test_a_mutation_that_does_not_fit_is_no_death(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MUTATIONS, "of a source that has changed", ("executor", "no such text", "", "Arrays"))
    with pytest.raises(LookupError, match="'no such text' is 0 times in the source"):
        changed("of a source that has changed")
