"""The meaning of ``--precision`` for each engine, and the check that it was built.

| asked | encoder, decoder | stages | costs |
|---|---|---|---|
| fp16 | fp16 | fp32 | pixels, slightly |
| int8 | int8 | int8 | pixels, within the budget of the calibration |
| mixed | fp16 | int8 | pixels, slightly |

A stage costs nothing in any precision: all of its graphs give the same logits. There is no other resolution than this
table: a graph that the bundle lacks, or a precision that TensorRT did not build, is an error.
"""

from __future__ import annotations

from uigc.engines.plan_census import UNKNOWN, share, shares
from uigc.engines.sidecar import Source
from uigc.runtime.bundle.manifest import is_stage
from uigc.runtime.errors import EngineError

PIXELS, STAGES = "pixels", "stages"
TABLE = {
    "fp16": {PIXELS: "fp16", STAGES: "fp32"},
    "int8": {PIXELS: "int8", STAGES: "int8"},
    "mixed": {PIXELS: "fp16", STAGES: "int8"},
}


def resolve(asked: str, graph: str) -> str:
    """Return the precision in which the engine of ``encoder``, ``stage0`` ... or ``decoder`` is built."""
    return TABLE[asked][STAGES if is_stage(graph) else PIXELS]


def check(graph: str, precision: str, counts: dict[str, int]) -> str | None:
    """Compare the ``precision`` that was asked for with that of the products that were built.

    Returns None if it is among them, and a warning if the products are unknown: what TensorRT tells of an engine is not
    documented, and exactness does not depend on it (``uigc verify`` shows that). Raises an :class:`EngineError` if all
    products are shown to be in other precisions.

    TensorRT has no product with float16 operands and a float32 sum, which exactness needs, so the float products of a
    stage are multiplied in TF32: tensor cores too, and exact. A stage in fp16, which older bundles have, becomes the
    same engine as one in fp32.
    """
    accepted = (precision, "tf32") if is_stage(graph) and precision != "int8" else (precision,)
    if any(share(counts, name) for name in accepted):
        return None
    if UNKNOWN in counts or not counts:
        return (
            f"{graph} was asked for in {precision}, and TensorRT tells of its products: {shares(counts)}; compare its "
            "speed with that of other precisions by 'uigc profile'"
        )
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


def giving(source: Source) -> str:
    """Return the first row of the table that gives the engine of one graph in its precision."""
    return next((asked for asked in TABLE if resolve(asked, source.graph) == source.precision), "fp16")
