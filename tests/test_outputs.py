"""A graph that returns nonsense is an error with its name, and never an image or a file."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from uigc.runtime.codec import Codec
from uigc.runtime.errors import InexactError, ProviderError
from uigc.runtime.providers import Graph

PIXELS = np.random.default_rng(5).integers(0, 256, (64, 96, 3), dtype=np.uint8)
Change = Callable[[NDArray[Any]], Any]


class Changed(Graph):
    def __init__(self, graph: Graph, change: Change) -> None:
        self._graph, self._change = graph, change

    def __call__(self, value: NDArray[Any]) -> Any:
        return self._change(self._graph(value).copy())


def with_one(place: int, number: float) -> Change:
    def change(output: NDArray[Any]) -> NDArray[Any]:
        output.reshape(-1)[place] = number
        return output

    return change


def spoiled(path: object, name: str, change: Change) -> Codec:
    """A codec of which the graph of that name returns something else."""
    codec = Codec(path, threads=1)  # type: ignore[arg-type]
    load = codec._graphs._load
    codec._graphs._load = lambda asked: Changed(load(asked), change) if asked == name else load(asked)
    return codec


SHAPES: list[Change] = [
    lambda output: output[..., :-1],
    lambda output: output[:0],
    lambda output: output.astype(np.int64 if output.dtype == np.int32 else np.float64),
    lambda output: output.tolist(),
    lambda output: None,
]
CASES = [
    *[("encoder", with_one(0, number)) for number in (-1, 16)],
    *[(name, change) for name in ("encoder", "stage0", "stage5", "decoder") for change in SHAPES],
]


@pytest.mark.parametrize(("name", "change"), CASES)
def test_what_a_graph_returns_is_looked_at(tiny: Codec, tiny_path: object, name: str, change: Change) -> None:
    codec, data = spoiled(tiny_path, name, change), tiny.compress(PIXELS, "edge")
    with pytest.raises(ProviderError, match=f"'{name}' returned"):
        _ = codec.compress(PIXELS, "edge"), codec.decompress(data)


@pytest.mark.parametrize("number", [2048, -2048, 2**31 - 1, -(2**31)])
def test_logits_out_of_range(tiny: Codec, earlier_path: object, number: float) -> None:
    """Of bundles whose stages return logits alone; with sums, those of a token are compared with them."""
    codec = spoiled(earlier_path, "stage2", with_one(3, number))
    for work in (lambda: codec.compress(PIXELS, "edge"), lambda: codec.decompress(tiny.compress(PIXELS, "edge"))):
        with pytest.raises(ProviderError, match="'stage2' returned"):
            work()


@pytest.mark.parametrize("number", [2048, -2048, 2**31 - 1, -(2**31)])
@pytest.mark.parametrize("mask", ["entire", "edge_more", "edge_more+draw3"])
def test_a_logit_that_is_not_in_its_sum(tiny: Codec, tiny_path: object, number: float, mask: str) -> None:
    """A logit of each digit of each token, so that of the token that is coded, too."""

    def change(output: NDArray[Any]) -> NDArray[Any]:
        output[..., 3:16:4] = number
        return output

    data = tiny.compress(PIXELS, mask)
    for stage in ("stage1", "stage5"):
        with pytest.raises(InexactError):
            spoiled(tiny_path, stage, change).decompress(data)


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_planes_that_are_not_finite(tiny: Codec, earlier_path: object, number: float) -> None:
    """Of bundles whose images are planes; bytes are always finite."""
    codec = Codec(earlier_path, threads=1)  # type: ignore[arg-type]
    decoder = codec._graphs("decoder")
    decoder._graph = Changed(decoder._graph, with_one(7, number))  # type: ignore[attr-defined]
    with pytest.raises(ProviderError, match="'decoder' returned values that are not finite"):
        codec.decompress(tiny.compress(PIXELS, "edge"))


@pytest.mark.parametrize("number", [0, 3, 1 << 21, 1 << 29, 2**31 - 1, -1, -(2**31)])
def test_weights_out_of_range(tiny: Codec, tiny_path: object, number: int) -> None:
    """One, and all of a token, whose sum may be 0 or more than 32 bits hold."""
    data = tiny.compress(PIXELS, "edge")
    for columns in (slice(17, 18), slice(16, 20)):

        def change(output: NDArray[Any], columns: slice = columns) -> NDArray[Any]:
            output[0, 2, columns] = number
            return output

        codec = spoiled(tiny_path, "stage2", change)
        for work in (partial(codec.compress, PIXELS, bpp=0.05), partial(codec.decompress, data)):
            with pytest.raises(ProviderError, match="'stage2' returned weights from"):
                work()


@pytest.mark.parametrize(("added", "error"), [(5000, ProviderError), (-5000, ProviderError), (1, InexactError)])
def test_largest_logits_that_are_not(tiny: Codec, tiny_path: object, added: int, error: type[Exception]) -> None:
    def change(output: NDArray[Any]) -> NDArray[Any]:
        output[..., -1] += added
        return output

    with pytest.raises(error):
        spoiled(tiny_path, "stage2", change).decompress(tiny.compress(PIXELS, "edge"))


@pytest.mark.parametrize("mask", ["edge_more:0", "edge_more:0+draw3"])
def test_a_largest_logit_of_lost_tokens_alone(tiny: Codec, tiny_path: object, mask: str) -> None:
    def change(output: NDArray[Any]) -> NDArray[Any]:
        output[..., -1] -= 1
        return output

    with pytest.raises(InexactError, match="are others than it stated"):
        spoiled(tiny_path, "stage5", change).decompress(tiny.compress(PIXELS, mask))


def test_the_largest_values_pass(tiny: Codec, tiny_path: object, earlier_path: object) -> None:
    for name, change in (("stage2", with_one(3, 2047)), ("stage2", with_one(3, -2047)), ("encoder", with_one(0, 15))):
        assert spoiled(earlier_path, name, change).compress(PIXELS, "entire")
    assert spoiled(tiny_path, "encoder", with_one(0, 15)).compress(PIXELS, "entire")
