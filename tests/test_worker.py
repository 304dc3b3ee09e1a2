"""The thread that runs captured graphs: who works, who frees, and what happens at a fork and at the end."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

import numpy as np
import pytest

from uigc.runtime import spans
from uigc.runtime.codec import Codec
from uigc.runtime.errors import ProviderError, UsageError
from uigc.runtime.providers import Graph, ProviderOptions
from uigc.runtime.providers.onnx_runtime import CPU, OnnxRuntime
from uigc.runtime.providers.worker import Worker, WorkerGraph

T = TypeVar("T")
forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")


def within_a_minute(work: Callable[[], T]) -> T:
    """What the work returns; an error if it waits forever."""
    found: list[T] = []
    caller = threading.Thread(target=lambda: found.append(work()), name="caller", daemon=True)
    caller.start()
    caller.join(60)
    assert found, "it waits forever"
    return found[0]


def in_a_child(work: Callable[[], bool]) -> bool:
    """Whether the work is true in a forked process, which ends there in any case."""
    child = os.fork()
    if child == 0:
        code = 2
        try:
            code = 0 if work() else 1
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


class Recording(Graph):
    """A graph that knows which threads ran and freed it."""

    def __init__(self) -> None:
        self.threads: list[str] = []

    def __call__(self, value: np.ndarray) -> np.ndarray:
        with spans.span("inside"):
            self.threads.append(threading.current_thread().name)
        if value.size == 0:
            raise ProviderError("nothing to do")
        return value + 1


def test_one_thread_runs_whoever_calls() -> None:
    worker, inner = Worker("captured"), Recording()
    graphs = [WorkerGraph(inner, worker) for _ in range(2)]
    callers = [threading.Thread(target=each, args=(np.zeros(1),)) for each in graphs * 4]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert inner.threads == ["captured"] * 8
    assert worker.do(lambda: worker.do(threading.current_thread)).name == "captured"  # from inside, without waiting
    with pytest.raises(ProviderError, match="nothing to do"):
        graphs[0](np.zeros(0))
    graphs[0].close()
    graphs[0].close()
    with pytest.raises(UsageError, match="closed"):
        graphs[0](np.zeros(1))


def test_spans_lie_inside_those_of_the_caller() -> None:
    graph = WorkerGraph(Recording(), Worker("captured"))
    with spans.recording(spans.Recorder()) as recorder, spans.span("network", 3):
        graph(np.zeros(1))
    inside, network = recorder.spans
    assert (inside.name, inside.stage, inside.depth) == ("inside", 3, 1)
    assert inside.thread != network.thread
    assert network.children == inside.ended - inside.begun
    assert network.depth == 0


def test_what_is_dropped_is_freed_by_the_worker() -> None:
    worker, freed = Worker("captured"), []

    class Held(Recording):
        def __del__(self) -> None:
            freed.append(threading.current_thread().name)

    graph = WorkerGraph(Held(), worker)
    graph(np.zeros(1))
    del graph
    gc.collect()
    worker.do(lambda: None)
    assert freed == ["captured"]


@forks
def test_a_fork_has_a_thread_of_its_own() -> None:
    worker = Worker("captured")
    assert worker.do(lambda: 1) == 1
    assert in_a_child(lambda: worker.do(lambda: 2) == 2)


@forks
def test_what_waits_at_a_fork_is_left_to_the_parent() -> None:
    """Neither what waits then, nor what is dropped later, is freed in the child."""
    worker, busy, go = Worker("captured"), threading.Event(), threading.Event()
    freed: list[int] = []

    class Held(Recording):
        def close(self) -> None:
            freed.append(os.getpid())

        def __del__(self) -> None:
            freed.append(os.getpid())

    graphs = [WorkerGraph(Held(), worker) for _ in range(2)]
    waiter = threading.Thread(target=worker.do, args=(lambda: (busy.set(), go.wait(60)),))
    waiter.start()
    assert busy.wait(60)
    del graphs[0]
    gc.collect()

    def child() -> bool:
        graphs.clear()
        gc.collect()
        return worker.do(lambda: 1) == 1 and not freed

    try:
        assert in_a_child(child)
    finally:
        go.set()
        waiter.join()
    graphs.clear()
    worker.do(lambda: None)
    assert freed == [os.getpid()] * 4


def test_work_that_fails_with_nobody_waiting_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    worker = Worker("captured")
    assert worker.do(lambda: 1) == 1
    worker.later(lambda: 1 // 0)
    assert within_a_minute(lambda: worker.do(lambda: 2)) == 2
    (record,) = caplog.records
    assert record.exc_info is not None
    assert record.exc_info[0] is ZeroDivisionError


def test_what_an_error_has_seen_is_freed_by_the_worker() -> None:
    """Though the caller keeps the error, and without the collector, which runs in any thread."""
    worker, freed = Worker("captured"), []

    class Session:
        def __del__(self) -> None:
            freed.append(threading.current_thread().name)

    def work() -> None:
        session = Session()
        try:
            other = session
            raise ValueError("the cause")
        except ValueError as error:
            raise ProviderError(f"it failed on {other}") from error

    gc.disable()
    try:
        try:
            worker.do(work)
        except ProviderError as error:
            kept = weakref.ref(error)
            assert freed == ["captured"]
        assert kept() is None
    finally:
        gc.enable()


def test_a_graph_inside_is_closed_and_measured_by_the_worker() -> None:
    calls: list[tuple[str, str]] = []

    def note(name: str) -> None:
        calls.append((name, threading.current_thread().name))

    class Measured(Recording):
        def close(self) -> None:
            note("close")

        def synchronize(self) -> None:
            note("synchronize")

        def timer(self) -> Callable[[], int]:
            note("timer")
            return lambda: (note("stop"), 7)[1]

    worker = Worker("captured")
    graph, dropped = WorkerGraph(Measured(), worker), WorkerGraph(Measured(), worker)
    graph.synchronize()
    stop = graph.timer()
    assert stop is not None
    assert stop() == 7
    graph.close()
    del dropped
    gc.collect()
    worker.do(lambda: None)
    names = ["synchronize", "timer", "stop", "close", "close"]
    assert calls == [(name, "captured") for name in names]
    assert WorkerGraph(Recording(), worker).timer() is None


def test_after_the_end_the_caller_works() -> None:
    worker, done = Worker("captured"), list[str]()
    worker.do(lambda: None)
    worker.later(lambda: done.append(threading.current_thread().name))
    worker.stop()
    assert done == ["captured"]
    assert within_a_minute(lambda: worker.do(threading.current_thread)).name == "caller"
    worker.later(lambda: done.append("never"))
    worker.stop()
    assert done == ["captured"]


LATE = """
import sys, time
from uigc.runtime.providers.worker import Worker
worker = Worker("captured")

class Codec:
    def __del__(self):
        worker.do(lambda: print("closed", flush=True))

def unfinished():
    codec = Codec()
    yield codec

ring = [unfinished()]
next(ring[0])
ring.append(ring)
worker.do(lambda: None)
worker.later(lambda: (time.sleep(0.5), print("worked", flush=True)))
sys.modules["kept"] = ring
"""


def test_a_codec_that_is_closed_when_python_ends() -> None:
    """Work that was begun is finished before, and nobody waits for a thread that has ended."""
    done = subprocess.run([sys.executable, "-c", LATE], capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["worked", "closed"], done.stderr
    assert done.returncode == 0


def test_an_interrupted_caller_takes_its_work_back() -> None:
    worker, go, done = Worker("captured"), threading.Event(), list[str]()
    worker.later(lambda: go.wait(60))
    with pytest.MonkeyPatch.context() as patch:

        def interrupted(future: Future[object]) -> object:
            raise KeyboardInterrupt

        patch.setattr(Future, "result", interrupted)
        with pytest.raises(KeyboardInterrupt):
            worker.do(lambda: done.append("nobody wants it"))
    go.set()
    assert worker.do(lambda: 1) == 1
    assert done == []


def test_captured_sessions_start_run_and_end_in_one_thread(tiny: Codec) -> None:
    seen: set[str] = set()

    class Watched(OnnxRuntime):
        def _session(self, *arguments: object) -> object:
            seen.add(threading.current_thread().name)
            return super()._session(*arguments)  # type: ignore[arg-type]

    runner = Watched("watched", "cpu", "CPUExecutionProvider", device="cpu", captured=True)
    graphs = [runner.load(tiny.bundle.graph(f"stage{stage}"), ProviderOptions()) for stage in range(3)]
    value = np.zeros((1, 8, 8), np.int32)
    callers = [threading.Thread(target=each, args=(value,)) for each in graphs * 2]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert seen == {"watched"}
    for stage, graph in enumerate(graphs):
        plain = CPU.load(tiny.bundle.graph(f"stage{stage}"), ProviderOptions())
        assert np.array_equal(graph(value), plain(value))
        graph.close()
