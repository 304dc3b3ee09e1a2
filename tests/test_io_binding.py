"""Bound sessions, on the only device that is everywhere: the same results, from places that are kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from uigc.runtime import spans
from uigc.runtime.codec import Codec
from uigc.runtime.errors import ProviderError
from uigc.runtime.providers import ProviderOptions
from uigc.runtime.providers.io_binding import SIZES, BoundSession
from uigc.runtime.providers.onnx_runtime import CPU, OnnxRuntime


@pytest.fixture
def session(tiny: Codec) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(str(tiny.bundle.graph("stage2")), providers=["CPUExecutionProvider"])


def test_the_results_are_those_of_plain_sessions(session: onnxruntime.InferenceSession) -> None:
    bound, rng = BoundSession(session, "cpu"), np.random.default_rng(0)
    shapes = [(1, 8, 8), (2, 8, 16), (1, 8, 8), (2, 8, 16)]
    inputs = [rng.integers(0, 18, shape, dtype=np.int32) for shape in shapes]
    results = [bound(value) for value in inputs]
    for value, result in zip(inputs, results, strict=True):  # later runs leave earlier results alone
        assert np.array_equal(result, session.run(None, {"tokens": value})[0])
    assert len(bound._buffers) == 2


def test_buffers_are_made_once_for_a_size(session: onnxruntime.InferenceSession) -> None:
    bound = BoundSession(session, "cpu")
    value = np.zeros((1, 8, 8), np.int32)
    bound(value)
    place = bound._buffers[value.shape]
    bound(value + 1)
    assert bound._buffers[value.shape] is place
    for wide in range(2, SIZES + 3):
        bound(np.zeros((1, 8, 8 * wide), np.int32))
    assert len(bound._buffers) == SIZES
    assert value.shape not in bound._buffers


def test_copies_are_told_apart(session: onnxruntime.InferenceSession) -> None:
    bound, value = BoundSession(session, "cpu"), np.zeros((1, 8, 8), np.int32)
    with spans.recording(spans.Recorder()) as recorder:
        result = bound(value)
    assert [(each.name, each.bytes) for each in recorder.spans] == [
        ("copy in", value.nbytes),
        ("copy out", result.nbytes),
    ]


class Recorder:
    """A session that remembers with which number of a CUDA graph each run was made."""

    def __init__(self, session: onnxruntime.InferenceSession) -> None:
        self._session, self.graphs = session, []

    def __getattr__(self, name: str) -> object:
        return getattr(self._session, name)

    def run_with_iobinding(self, binding: object, options: onnxruntime.RunOptions) -> None:
        self.graphs.append(options.get_run_config_entry("gpu_graph_id"))
        self._session.run_with_iobinding(binding)


def test_each_place_has_a_graph_of_its_own_after_a_run_without_one(session: onnxruntime.InferenceSession) -> None:
    recorder = Recorder(session)
    bound = BoundSession(recorder, "cpu", captured=True)
    small, large = np.zeros((1, 8, 8), np.int32), np.zeros((1, 8, 16), np.int32)
    for value in (small, large, small, large):
        assert np.array_equal(bound(value), session.run(None, {"tokens": value})[0])
    assert recorder.graphs == ["-1", "1", "-1", "2", "1", "2"]


def test_a_size_is_a_constant_to_its_session(tiny: Codec) -> None:
    made: list[dict[str, int]] = []

    class Counting(OnnxRuntime):
        def _session(self, path: Path, options: ProviderOptions, sizes: dict[str, int] | None = None) -> object:
            made.append(sizes or {})
            return super()._session(path, options, sizes)

    names = ("int8", "fp32"), ("int8", "fp32")
    runner = Counting("fixed", "cpu", "CPUExecutionProvider", *names, (None,), device="cpu", captured=True)
    path = tiny.bundle.graph("stage3")
    fixed, plain = (each.load(path, ProviderOptions()) for each in (runner, CPU))
    rng = np.random.default_rng(3)
    for shape in ((1, 8, 8), (2, 8, 16), (1, 8, 8), (2, 8, 16), (1, 16, 8)):
        value = rng.integers(0, 18, shape, dtype=np.int32)
        assert np.array_equal(fixed(value), plain(value))
    assert [tuple(sizes.values()) for sizes in made] == [(1, 8, 8), (2, 8, 16), (1, 16, 8)]
    for wide in range(2, SIZES + 3):
        fixed(np.zeros((1, 8, 8 * wide), np.int32))
    before = len(made)
    fixed(np.zeros((1, 8, 8), np.int32))  # whose session went first
    assert len(made) == before + 1


def test_errors_of_a_size_are_the_providers(tiny: Codec) -> None:
    names = ("int8", "fp32"), ("int8", "fp32")
    runner = OnnxRuntime("fixed", "cpu", "CPUExecutionProvider", *names, device="cpu", captured=True)
    graph = runner.load(tiny.bundle.graph("stage0"), ProviderOptions())
    with pytest.raises(ProviderError, match="'fixed' failed on an input of"):
        graph(np.zeros((1, 8, 8), np.float32))
