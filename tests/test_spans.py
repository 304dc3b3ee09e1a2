"""Spans of the codec's work: they nest, add up, and change nothing."""

from __future__ import annotations

import contextvars
import threading
import time
from collections.abc import Callable

import numpy as np
import pytest

from uigc.runtime.codec import Codec
from uigc.runtime.spans import Recorder, Timed, recording, span

IMAGE = np.random.default_rng(3).integers(0, 256, (70, 90, 3), dtype=np.uint8)
STAGE = {"tokens in", "network", "rows", "tables", "range coding", "regeneration", "tokens out", "stage"}


def test_every_step_of_a_file_and_back(tiny: Codec) -> None:
    with recording(Recorder()) as there:
        data = tiny.compress(IMAGE)
    assert {step.name for step in there.spans if step.stage is None} == {"image in", "encoder", "mask", "file"}
    with recording(Recorder()) as back:
        tiny.decompress(data)
    assert {step.name for step in back.spans if step.stage is None} == {
        "header", "mask", "check", "decoder",
    }  # fmt: skip
    for spans in (there.spans, back.spans):
        for stage in range(6):
            assert {step.name for step in spans if step.stage == stage} == STAGE
        assert all(step.ended >= step.begun and step.own >= 0 for step in spans)
        stages = [step for step in spans if step.name == "stage"]
        inside = sum(step.own for step in spans if step.stage is not None)
        assert inside == sum(step.ended - step.begun for step in stages)
        last = [step for step in spans if step.name == "network"][-1]
        assert last.bytes == 8 * 8 * 4 + 16 * (16 + 4 + 1) * 4  # tokens in, predictions out


def test_recording_changes_nothing_and_ends(tiny: Codec) -> None:
    with recording(Recorder()) as recorder:
        data = tiny.compress(IMAGE)
    count = len(recorder.spans)
    assert tiny.compress(IMAGE) == data
    assert len(recorder.spans) == count
    assert span("free") is span("of charge")


def test_nesting_and_failures() -> None:
    events: list[str] = []
    recorder = Recorder(on_begin=events.append, on_end=lambda: events.append("end"))
    with recording(recorder), span("outer", 4), span("inner") as step:
        step.moved(5)
        step.moved(2)
    with recording(recorder), pytest.raises(ValueError, match="bad"), span("failing"):
        raise ValueError("bad")
    inner, outer, failing = recorder.spans
    assert (inner.name, inner.stage, inner.depth, inner.bytes) == ("inner", 4, 1, 7)
    assert outer.own == outer.ended - outer.begun - (inner.ended - inner.begun)
    assert (failing.stage, failing.depth) == (None, 0)
    assert events == ["outer 4", "inner 4", "end", "end", "failing", "end"]


def test_a_device_is_waited_for() -> None:
    """The span ends after the device, not after the call."""
    waited: list[int] = []

    class Graph(Timed):
        def synchronize(self) -> None:
            assert recorder.spans == []
            waited.append(time.perf_counter_ns())

    with recording(Recorder()) as recorder, span("network", runs_on=Graph()):
        pass
    assert recorder.spans[0].ended >= waited[0]


def test_a_device_may_measure_itself() -> None:
    class Graph(Timed):
        def timer(self) -> Callable[[], int]:
            begun.append(recorder.spans == [])
            return lambda: 1234

    begun: list[bool] = []
    with recording(Recorder()) as recorder, span("network", runs_on=Graph()):
        assert begun == [True]
    assert recorder.spans[0].device == 1234


def test_threads_have_stacks_of_their_own() -> None:
    def work() -> None:
        with span("there"):
            pass

    with recording(Recorder()) as recorder, span("here"):
        thread = threading.Thread(target=contextvars.copy_context().run, args=(work,))
        thread.start()
        thread.join()
    there, here = recorder.spans
    assert (there.depth, here.children) == (0, 0)
    assert there.thread != here.thread
