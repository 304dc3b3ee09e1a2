"""The meaning of ``--precision`` for each engine, and the check that it was built.

| asked | encoder, decoder | stages | costs |
|---|---|---|---|
| fp16 | fp16 | fp16 | pixels, slightly |
| int8 | int8 | int8 | pixels, within the budget of the calibration |
| mixed | fp16 | int8 | pixels, slightly |

A stage costs nothing in any precision: all of its graphs give the same logits. There is no other resolution than this
table: a graph that the bundle lacks, or a precision that TensorRT did not build, is an error.
"""

from __future__ import annotations

from typing import Any

from uigc.engines.plan_census import share, shares
from uigc.runtime.errors import EngineError

PIXELS, STAGES = "pixels", "stages"
TABLE = {
    "fp16": {PIXELS: "fp16", STAGES: "fp16"},
    "int8": {PIXELS: "int8", STAGES: "int8"},
    "mixed": {PIXELS: "fp16", STAGES: "int8"},
}
TF32_BITS, SUM_BITS = 11, 24  # significant bits of a TF32 operand, and of the float32 that products are summed in


def is_stage(graph: str) -> bool:
    return graph.startswith("stage")


def resolve(asked: str, graph: str) -> str:
    """Return the precision in which the engine of ``encoder``, ``stage0`` ... or ``decoder`` is built."""
    return TABLE[asked][STAGES if is_stage(graph) else PIXELS]


def tf32_is_exact(proof: dict[str, Any]) -> bool:
    """Return True if a stage's proof shows that TF32 rounds nothing in its float32 products: the operands of every
    product have few enough bits, and every sum is exact in float32. Pixel networks have no proof."""
    tightest = proof.get("tightest", {})
    operand = tightest.get("operand", {}).get("bits", TF32_BITS + 1)
    sums = [found["bits"] for kind, found in tightest.items() if kind in ("sums", "partial sums", "products")]
    return bool(operand <= TF32_BITS and max(sums, default=SUM_BITS + 1) <= SUM_BITS)


def check(graph: str, precision: str, counts: dict[str, int]) -> None:
    """Raise unless the ``precision`` that was asked for is among the products that were built.

    TensorRT has no product with float16 operands and a float32 sum, which exactness needs, so the float16 operands of a
    stage are multiplied in TF32: tensor cores too, and exact.
    """
    accepted = ("fp16", "tf32") if is_stage(graph) and precision == "fp16" else (precision,)
    if not any(share(counts, name) for name in accepted):
        raise EngineError(
            f"The engine of {graph} was asked for in {precision}, and TensorRT built its products in {shares(counts)}, "
            "so it was not written; build it in another precision."
        )


def asked_for(pixels: list[str], stages: list[str]) -> str | None:
    """Return the row of the table that gives engines in these precisions, None if none does."""
    for asked, row in TABLE.items():
        if ([row[PIXELS]], [row[STAGES]]) == (pixels, stages):
            return asked
    return None
