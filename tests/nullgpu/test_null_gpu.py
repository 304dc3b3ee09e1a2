"""The real onnxruntime-gpu on a GPU that computes nothing: what it loads, where nodes go, what it asks the GPU for.

Partitioning, the checks of sessions, the loop over nodes and the capture of graphs are ONNX Runtime's own; values are
not computed, so nothing here is about results. Needs the extra ``test-gpu``, which cannot be installed beside ``test``:
``onnxruntime-gpu`` and ``onnxruntime`` overwrite each other.

    python -m venv .venv/gpu
    .venv/gpu/bin/pip install -e ".[test-gpu]"
    .venv/gpu/bin/python -m pytest --noconftest tests/nullgpu
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from tests.nullgpu import libraries, measure
from tests.support.paths import ROOT
from uigc.runtime.bundle import Bundle
from uigc.runtime.bundle.graph_entry import graph_entry
from uigc.runtime.environment import gpu_names, package_version
from uigc.runtime.providers import ProviderOptions, cuda
from uigc.runtime.providers.library import import_onnxruntime
from uigc.runtime.providers.onnx_runtime import CUDA, CUDA_GRAPHS, OnnxRuntime

if package_version("onnxruntime-gpu") is None or not measure.provider_library().is_file():
    pytest.skip("onnxruntime-gpu (uigc[test-gpu]) is not installed, or not for Linux", allow_module_level=True)
if not shutil.which("g++") or not shutil.which("nm"):
    pytest.skip("g++ and nm are needed to make the libraries", allow_module_level=True)

BUNDLE = Bundle.load(recompute=False)
GRAPHS = measure.graphs(BUNDLE)
ROWS_OF_ANOTHER = 16  # of a smaller image, in tokens
RESULTS = ROOT / "bench" / "results" / "launches.json"


@pytest.fixture(scope="module")
def measured() -> dict[tuple[str, str], dict[str, dict[str, int]]]:
    return {(row["graph"], row["precision"]): row for row in measure.measure(BUNDLE)}


@pytest.fixture(autouse=True, scope="module")
def gpu() -> None:
    measure.null_gpu()


def test_both_providers_can_run() -> None:
    assert CUDA.problem() is None
    assert CUDA_GRAPHS.problem() is None
    assert gpu_names() == ("A GPU that computes nothing",)
    assert CUDA.measured_as(0) == "cuda on A GPU that computes nothing"


def test_all_graphs_are_there() -> None:
    assert {name for name, _ in GRAPHS} == {"encoder", "decoder", *(f"stage{stage}" for stage in range(6))}
    assert len(GRAPHS) == 6 * len(BUNDLE.precisions("stage0")) + 2 * 2


class Placed(OnnxRuntime):
    """``cuda-graphs`` that keeps the optimized graph, and where its nodes were placed."""

    def place(self, graph: str, precision: str, folder: Path) -> tuple[set[str], bytes]:
        path = BUNDLE.graph(graph, precision)
        shape = measure.example(graph).shape
        dimensions = graph_entry(path).dimensions
        sizes = {name: size for name, size in zip(dimensions, shape, strict=True) if isinstance(name, str)}
        object.__setattr__(self, "written", folder / "optimized.onnx")
        session = self._session(path, ProviderOptions(), sizes)
        placed = {part.ep_name for part in session.get_provider_graph_assignment_info()}
        return placed, (folder / "optimized.onnx").read_bytes()

    def _settings(self, *arguments: object) -> object:
        settings = super()._settings(*arguments)  # type: ignore[arg-type]
        settings.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
        settings.optimized_model_filepath = str(self.written)  # type: ignore[attr-defined]
        return settings


@pytest.mark.parametrize(("graph", "precision"), GRAPHS)
def test_no_node_of_a_fixed_size_is_on_the_host(graph: str, precision: str, tmp_path: Path) -> None:
    runner = Placed("placed", "gpu", cuda.PROVIDER, device="cuda", captured=True)
    placed, optimized = runner.place(graph, precision, tmp_path)
    assert placed == {cuda.PROVIDER}
    assert b"Conv" in optimized or b"MatMul" in optimized or b"Gemm" in optimized
    assert b"MemcpyFromHost" not in optimized
    assert b"MemcpyToHost" not in optimized


@pytest.mark.parametrize(("graph", "precision"), GRAPHS)
def test_a_captured_call_is_one_copy_one_graph_one_copy(
    graph: str, precision: str, measured: dict[tuple[str, str], dict[str, dict[str, int]]]
) -> None:
    row = measured[graph, precision]
    later = row["cuda-graphs"]
    assert {kind: later[kind] for kind in later if kind != "SYNCHRONIZE"} == {"COPY D2H": 1, "COPY H2D": 1, "GRAPH": 1}
    assert later["SYNCHRONIZE"] <= 2
    assert row["captured"]["KERNEL"] > 50
    assert set(row["captured"]) <= {"KERNEL", "COPY D2D", "SET"}
    assert row["cuda"]["COPY D2H"] == 1


def test_half_precision_adds_no_bias_and_clears_nothing(
    measured: dict[tuple[str, str], dict[str, dict[str, int]]],
) -> None:
    """In NHWC, with the bias in the convolution."""
    full, half = (measured["decoder", precision]["cuda"] for precision in ("fp32", "fp16"))
    assert "SET" in full
    assert "SET" not in half
    assert half["KERNEL"] < full["KERNEL"]


@pytest.mark.parametrize("precision", BUNDLE.precisions("stage0"))
def test_nothing_illegal_happens_in_a_capture_while_four_threads_work(precision: str) -> None:
    loaded = [CUDA_GRAPHS.load(BUNDLE.graph(f"stage{stage}", precision), ProviderOptions()) for stage in range(6)]
    measure.take_log()

    def work(number: int) -> None:
        for rows in range(1, 4):
            for step in range(6):
                loaded[(number + step) % 6](np.zeros((1, 16 * rows, 32), np.int32))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    log = measure.take_log()
    assert not [line for line in log if "ILLEGAL" in line]
    assert log.count("CAPTURE") == 6 * 3  # a graph and a size are captured once, whoever calls
    for graph in loaded:
        graph.close()


def test_both_providers_work_in_one_process_in_turns() -> None:
    """Each captures, replays or launches what is its own; docs/CLI.md says why they are not to work at once."""
    plain, captured = (runner.load(BUNDLE.graph("stage5", "int8"), ProviderOptions()) for runner in (CUDA, CUDA_GRAPHS))
    value, wider = measure.example("stage5"), np.zeros((1, ROWS_OF_ANOTHER, 32), np.int32)
    logs: dict[str, list[str]] = {"plain": [], "captured": []}
    for tokens in (value, wider, value, wider):
        for name, graph in (("plain", plain), ("captured", captured)):
            measure.take_log()
            graph(tokens)
            logs[name] += measure.take_log()
    captured.close()
    measure.take_log()
    plain(value)  # what the other one freed was not its own
    logs["plain"] += measure.take_log()
    assert not [line for line in logs["plain"] + logs["captured"] if "ILLEGAL" in line]
    assert logs["captured"].count("CAPTURE") == 2
    assert measure.counts(logs["captured"])["GRAPH"] >= 2
    assert not {"CAPTURE", "GRAPH"} & set(measure.counts(logs["plain"]))


@pytest.mark.parametrize("library", ["libcuda.so.1", "libcublas.so.13", "libcurand.so.10", "libcudnn.so.9"])
def test_a_missing_library_is_named(library: str, tmp_path: Path) -> None:
    libraries.build(measure.provider_library(), tmp_path)
    code = f"""
from pathlib import Path
from tests.nullgpu import libraries
libraries.ORDER = tuple(name for name in libraries.ORDER if name != {library!r})
libraries.load(Path({str(tmp_path)!r}))
from uigc.runtime.providers.onnx_runtime import CUDA
print(CUDA.problem())
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.stdout.startswith("The provider 'cuda' cannot start here: "), done.stderr
    assert library.partition(".so")[0] in done.stdout
    assert done.stdout.count("\n") == 1


def test_the_results_are_those_that_are_kept(
    measured: dict[tuple[str, str], dict[str, dict[str, int]]],
) -> None:
    kept = json.loads(RESULTS.read_text(encoding="utf-8"))
    if kept["versions"]["onnxruntime-gpu"] != import_onnxruntime().__version__:
        pytest.skip("launches.json was measured with another version")
    rows = {(row["graph"], row["precision"]): row for row in kept["graphs"]}
    assert {name: rows.get(name) for name in measured} == measured
