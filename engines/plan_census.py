"""The precision of the products of a TensorRT plan.

A plan for RTX holds its program as text: every tensor with its type, every product with its operands. That text is not
documented, so a product that is not found in it counts as unknown, never as one of the right type. Without a GPU it is
the only source; with one, TensorRT's own inspector is used (:mod:`uigc.engines.inspector`).
"""

from __future__ import annotations

import re
from collections import Counter

_PRODUCT = re.compile(rb'\n\s*(?:fully_connected|corrltn)=\{ name="[^"]*" output=\{([^}]*)\} input=\{([^}]*)\}')
_TENSOR = re.compile(rb"tensor=\{ ((?:[^{}]|\{[^{}]*\})*?) \}")
_NAME, _TYPE = re.compile(rb'name="([^"]+)"'), re.compile(rb"type=(\w+)")
_QUOTED = re.compile(rb'"([^"]+)"')
_PRECISIONS = {b"int8": "int8", b"half": "fp16", b"bfloat16": "bf16", b"float": "fp32"}
_TF32 = b"tf32=1"
UNKNOWN = "unknown"
"""The precision of a product of which nothing is told."""


def census(plan: bytes) -> dict[str, int]:
    """Count matrix products and convolutions by the type of their operands.

    The types are ``int8``, ``fp16``, ``tf32`` (float32 that may be multiplied in TF32), ``fp32`` and ``unknown``; the
    result is empty if the plan does not say.
    """
    types = {}
    for tensor in _TENSOR.finditer(plan):
        name, kind = _NAME.search(tensor[1]), _TYPE.search(tensor[1])
        # A plan of several profiles uses names again: a name may be an int64 shape in one program and an operand in
        # another. Products have no other types than these, so only tensors of these types are kept.
        if name and kind and kind[1] in _PRECISIONS:
            types[name[1]] = kind[1]
    counts: Counter[str] = Counter()
    for output, inputs in _PRODUCT.findall(plan):
        operands = [name.removesuffix(b"^deref") for name in _QUOTED.findall(inputs)[:2]]
        known = [types[name] for name in operands if name in types]
        known += [types[name] for name in _QUOTED.findall(output)[:1] if name in types and not known]
        # Both operands have one type. An operand computed at run time is not declared, so the other one tells.
        found = next((_PRECISIONS[kind] for kind in _PRECISIONS if kind in known), UNKNOWN)
        counts["tf32" if found == "fp32" and _TF32 in plan else found] += 1
    return dict(sorted(counts.items()))


def completed(counts: dict[str, int], products: int) -> dict[str, int]:
    """Return ``counts`` with the network's ``products`` that were not found as ``unknown``."""
    lacking = products - sum(counts.values())
    return counts | {UNKNOWN: counts.get(UNKNOWN, 0) + lacking} if lacking > 0 else counts


def share(counts: dict[str, int], precision: str) -> float:
    """Return the share of the products in a precision, 0..1."""
    return counts.get(precision, 0) / max(1, sum(counts.values()))


def shares(counts: dict[str, int]) -> str:
    """``68 % int8, 32 % tf32``, the largest first."""
    largest = sorted(counts, key=lambda name: -counts[name])
    return ", ".join(f"{share(counts, name):.0%} {name}".replace("%", " %") for name in largest) or UNKNOWN
