"""The small parts of engines that are data: profiles, precisions, and what plans and inspectors say."""

from __future__ import annotations

import json

import pytest

from tests.support.paths import ROOT
from uigc.engines import inspector, plan_census
from uigc.engines.precision import TABLE, asked_for, check, resolve
from uigc.engines.profile import NAMED, Profile
from uigc.runtime.bundle import Bundle
from uigc.runtime.bundle.graph_entry import tf32_is_exact
from uigc.runtime.errors import EngineError, UsageError


def test_profiles() -> None:
    fixed = Profile.parse("kodak")
    assert fixed.shapes("encoder", 16, 16) == ((1, 512, 768, 3),) * 3
    assert fixed.shapes("encoder", 16, 16, planes=True) == ((1, 3, 512, 768),) * 3
    assert fixed.shapes("stage3", 16, 16) == fixed.shapes("decoder", 16, 16) == ((1, 32, 48),) * 3
    odd = Profile.parse("100x33..1000x500", batch=4)
    assert odd.shapes("decoder", 16, 16) == ((1, 3, 7), (4, 32, 63), (4, 32, 63))
    assert odd.shapes("stage0", 16, 16) == ((1, 16, 16), (4, 32, 64), (4, 32, 64))
    assert odd.text == "100x33..1000x500, batches of 1 to 4"
    assert {Profile.parse(name).name for name in NAMED} == set(NAMED)


@pytest.mark.parametrize("text", ["", "768", "768x", "0x5", "20000x2", "64x64..32x32", "64x64..", "huge", "-1x1"])
def test_profiles_that_make_no_sense(text: str) -> None:
    with pytest.raises(UsageError, match="The profile"):
        Profile.parse(text)


def test_batches_that_make_no_sense() -> None:
    for batch in (0, -1, 65):
        with pytest.raises(UsageError, match=f"Batches of {batch}"):
            Profile.parse("kodak", batch)


def test_the_table_of_precisions() -> None:
    assert [resolve("mixed", graph) for graph in ("encoder", "stage0", "decoder")] == ["fp16", "int8", "fp16"]
    assert [resolve("fp16", graph) for graph in ("encoder", "stage0", "decoder")] == ["fp16", "fp32", "fp16"]
    for asked, row in TABLE.items():
        assert asked_for([row["pixels"]], [row["stages"]]) == asked
    assert asked_for(["fp16", "int8"], ["int8"]) is None


def test_what_counts_as_the_precision_asked_for() -> None:
    assert check("decoder", "int8", {"int8": 1, "fp16": 30}) is None
    assert check("stage0", "fp32", {"tf32": 3}) is check("stage0", "fp32", {"fp32": 3}) is None
    assert check("stage0", "fp16", {"tf32": 3}) is None
    for graph, precision, counts in (
        ("decoder", "int8", {"fp16": 3}),
        ("decoder", "fp16", {"tf32": 3}),
        ("stage0", "fp16", {"fp32": 3}),
        ("stage0", "int8", {"tf32": 3}),
    ):
        with pytest.raises(EngineError, match=f"{graph} was asked for in {precision}"):
            check(graph, precision, counts)


def test_what_is_unknown_is_a_warning() -> None:
    """TensorRT need not tell: only what is shown to be another precision is refused."""
    for counts, told in (({"fp16": 3, "unknown": 3}, "50 % fp16, 50 % unknown"), ({}, "unknown")):
        assert str(check("decoder", "int8", counts)).startswith(
            f"decoder was asked for in int8, and TensorRT tells of its products: {told}; "
        )


def test_tf32_only_where_it_is_proven_harmless() -> None:
    bundle = Bundle.load()
    for stage in range(len(bundle.schedule)):
        for precision in bundle.precisions(f"stage{stage}"):
            assert tf32_is_exact(bundle.certificate(f"stage{stage}", precision))
    assert not tf32_is_exact({})
    wide = {"operand": {"bits": 12}, "partial sums": {"bits": 20}}
    assert not tf32_is_exact({"tightest": wide})
    assert tf32_is_exact({"tightest": wide | {"operand": {"bits": 11}}})
    assert not tf32_is_exact({"tightest": {"operand": {"bits": 8}, "partial sums": {"bits": 24.5}}})


def test_the_table_of_launches_is_what_was_measured() -> None:
    rows = json.loads((ROOT / "bench" / "results" / "launches.json").read_text(encoding="utf-8"))["graphs"]
    counted = {(row["graph"], row["precision"]): (row["cuda"]["KERNEL"], row["captured"]["KERNEL"]) for row in rows}
    page = (ROOT / "docs" / "ENGINES.md").read_text(encoding="utf-8")
    table = page.split("launches on `cuda`: fp32", 1)[1]
    for graph in ("encoder", "stage0", "stage5", "decoder"):
        cells = next(line for line in table.splitlines() if line.startswith(f"| `{graph}` |")).split("|")[2:-1]
        shown = [cell.strip() for cell in cells]
        found = [counted.get((graph, precision), ("", "")) for precision in ("fp32", "fp16", "int8")]
        assert shown == [str(pair[which]) for which in (0, 1) for pair in found], graph


PLAN = b"""
  tensor={ name="a" dims={ 1 2 } type=int8 }
  tensor={ name="b" mem={ x } strides={ 1 2 } type=half }
  tensor={ name="c" type=float }
  tensor={ name="flag" type=bool }
  tensor={ name="a" type=int64 }
  fully_connected={ name="1" output={"c" } input={"a^deref" "unseen" "scale" } more=1 }
  corrltn={ name="2" output={"c" } input={"b" "b" } more=1 }
  fully_connected={ name="3" output={"c" } input={"c" "c" } }
  fully_connected={ name="4" output={"b" } input={"unseen" "unseen" } }
  fully_connected={ name="5" output={"unseen" } input={"unseen" "unseen" } }
  fully_connected={ name="6" output={"c" } input={"flag" "unseen" } }
"""


def test_the_census_of_a_plan() -> None:
    """Names are used anew in the program of another profile, where they may be of types that nothing multiplies."""
    assert plan_census.census(PLAN) == {"int8": 1, "fp16": 2, "fp32": 2, "unknown": 1}
    assert plan_census.census(PLAN + b"tf32=1")["tf32"] == 2
    assert plan_census.census(b"\x00 no text at all") == {}
    assert plan_census.completed({"int8": 2}, 5) == {"int8": 2, "unknown": 3}
    assert plan_census.completed({"int8": 2}, 2) == {"int8": 2}
    assert plan_census.shares({"int8": 17, "tf32": 8}) == "68 % int8, 32 % tf32"
    assert plan_census.shares({}) == "unknown"


def test_what_an_inspector_says() -> None:
    layers = [
        {"Name": "conv_1 + relu_1", "LayerType": "CaskConvolution", "Weights": {"Type": "Int8", "Count": 9}},
        {"Name": "gemm", "Metadata": "[ONNX Layer: mm_1]\x1f[ONNX Layer: add]",
         "Inputs": [{"Name": "x", "Format/Datatype": "Row major linear FP16 format"}]},
        {"Name": "mm_2", "Inputs": [{"Name": "x", "Format/Datatype": "Float"}]},
        {"Name": "mm_3", "Inputs": []},
        "a name alone",
    ]  # fmt: skip
    names = ["conv_1", "mm_1", "mm_2", "mm_3", "mm", "conv"]
    found = inspector.read(json.dumps({"Layers": layers}), names, tf32=False)
    assert found == {"fp16": 1, "fp32": 1, "int8": 1, "unknown": 3}
    assert inspector.read(json.dumps({"Layers": layers}), ["mm_2"], tf32=True) == {"tf32": 1}


@pytest.mark.parametrize(
    "text", ["", "no JSON", "[]", "{}", '{"Layers": 3}', '{"Layers": [{"Name": "mm", "Inputs": ["x"]}]}']
)
def test_an_inspector_that_speaks_another_language(text: str) -> None:
    assert inspector.read(text, ["mm"], tf32=True) == {"unknown": 1}
