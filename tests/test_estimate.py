"""The estimate of a decode on GPUs: its counts, its arithmetic, and the table of the page."""

from __future__ import annotations

import json

import onnx
import pytest
from onnx import TensorProto, helper

from tests.support.paths import ROOT
from uigc.bench import estimate, latency_table
from uigc.bench.estimate import Gpu, Way, Work
from uigc.runtime.bundle import Bundle


def test_products_of_a_graph() -> None:
    floats = TensorProto.FLOAT
    value, weights = helper.make_tensor_value_info, helper.make_tensor
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["image", "kernel"], ["features"]),
            helper.make_node("MatMul", ["features", "m"], ["y"]),
        ],
        "two products",
        [value("image", floats, [1, 3, 10, 8])],
        [value("y", floats, [1, 5, 8, 7])],
        [weights("kernel", floats, [5, 3, 3, 3], [0.0] * 135), weights("m", floats, [6, 7], [0.0] * 42)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    onnx.checker.check_model(model)
    assert estimate.products(model) == 5 * 8 * 6 * 27 + 5 * 8 * 7 * 6


def test_the_arithmetic() -> None:
    way = Way("made up", (1.0, 2.0), (10.0, 20.0), None, (100, 200))
    works = {"stage0": Work(10**9, 4000), "decoder": Work(0, 0)}
    low, high = estimate.milliseconds(Gpu("slow", 1.0, 2.0, 0.004), way, works, {})
    assert low == pytest.approx((100 + 2e9 / 0.4e6 + 1000 + 10 + 200 + 10) / 1e3)
    assert high == pytest.approx((200 + 2e9 / 0.15e6 + 1000 + 20 + 400 + 20) / 1e3)


def test_the_page_has_the_table_of_the_default_bundle() -> None:
    """The work of the pixel decoder, and copies: bytes of an image and of all predictions, and tokens."""
    works = estimate.work(Bundle.load(), 768, 512)
    assert works["decoder"].copied == 768 * 512 * 3 + 4 * 48 * 32
    assert sum(each.copied for name, each in works.items() if name != "decoder") == 4 * 1536 * (256 + 16 + 1 + 6)
    counts = estimate.kernels_of(json.loads(estimate.LAUNCHES.read_text(encoding="utf-8")))
    page = (ROOT / "docs" / "ENGINES.md").read_text(encoding="utf-8")
    assert latency_table.block(page, estimate.MARK) == estimate.table(works, counts)
