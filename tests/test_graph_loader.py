"""GraphLoader are loaded once, in order, and a failure is told to whoever asks."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from uigc.runtime.errors import ProviderError, UsageError
from uigc.runtime.networks.graph_loader import GraphLoader
from uigc.runtime.providers import Graph


def test_each_is_loaded_once_and_in_the_order_of_the_first_request() -> None:
    loaded: list[str] = []
    go = threading.Event()

    def load(name: str) -> Graph:
        go.wait(10)
        loaded.append(name)
        return lambda value: value

    graphs = GraphLoader(load)
    graphs.prefetch(["a", "b", "c"])
    graphs.prefetch(["c", "a", "d"])
    go.set()
    assert np.array_equal(graphs("d")(np.ones(2)), np.ones(2))
    assert graphs("a") is graphs("a")
    assert loaded == ["a", "b", "c", "d"]


def test_several_are_loaded_at_a_time_but_the_first_alone() -> None:
    both, busy, most = threading.Barrier(2, timeout=10), set[str](), list[set[str]]()

    def load(name: str) -> Graph:
        busy.add(name)
        most.append(set(busy))
        if name != "a":
            both.wait()  # until the other thread is here, too
        busy.remove(name)
        return lambda value: value

    graphs = GraphLoader(load, threads=2)
    graphs.prefetch("abc")
    assert graphs("c") is graphs("c")
    assert graphs("b") is not graphs("a")
    assert most[0] == {"a"}
    assert most[-1] == {"b", "c"}


def test_a_failure_is_told_and_tried_again() -> None:
    attempts: list[str] = []

    def load(name: str) -> Graph:
        attempts.append(name)
        if len(attempts) == 1:
            raise ProviderError("The device is busy, and a free one is needed; wait.")
        return lambda value: value

    graphs = GraphLoader(load)
    with pytest.raises(ProviderError, match="busy"):
        graphs("a")
    graphs("a")
    assert attempts == ["a", "a"]


def test_who_waits_while_it_is_closed_is_told() -> None:
    """Of a graph whose loading has not begun, and never will."""

    class Still(Graph):
        def __call__(self, value: np.ndarray) -> np.ndarray:
            return value

    begun, go, told = threading.Event(), threading.Event(), list[UsageError]()

    def load(name: str) -> Graph:
        begun.set()
        assert go.wait(10)
        return Still()

    graphs = GraphLoader(load)
    graphs.prefetch("ab")

    def ask() -> None:
        with pytest.raises(UsageError, match="The codec is closed") as refused:
            graphs("b")
        told.append(refused.value)

    asking, closing = threading.Thread(target=ask), threading.Thread(target=graphs.close)
    assert begun.wait(10)
    asking.start()
    asking.join(0.05)  # it waits for the graph by now
    closing.start()
    asking.join(10)
    go.set()
    closing.join(10)
    assert len(told) == 1


def test_all_are_closed_and_the_first_error_is_told() -> None:
    closed: list[str] = []

    class Failing(Graph):
        def __init__(self, name: str) -> None:
            self.name = name

        def __call__(self, value: np.ndarray) -> np.ndarray:
            return value

        def close(self) -> None:
            closed.append(self.name)
            if self.name != "a":
                raise ProviderError(f"{self.name} is lost, and a device is needed; get another.")

    graphs = GraphLoader(Failing)
    graphs.prefetch(["a", "b", "c"])
    graphs("c")
    with pytest.raises(ProviderError, match="b is lost"):
        graphs.close()
    assert closed == ["a", "b", "c"]
