"""The precision of an engine's products as TensorRT's own inspector reports it, which needs a GPU to load the engine.

Engines are built with ``ProfilingVerbosity.DETAILED`` so that the inspector reports types.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable
from typing import Any

from uigc.engines.backend import Backend
from uigc.engines.plan_census import UNKNOWN

# Patterns for the values of "Format/Datatype" ("Row major linear FP16 format") and of the weights' "Type" ("Int8").
_WORDS = {
    "int8": re.compile(r"\bint8\b", re.I),
    "fp16": re.compile(r"\b(fp16|half)\b", re.I),
    "bf16": re.compile(r"\b(bf16|bfloat16)\b", re.I),
    "fp32": re.compile(r"\b(fp32|float|float32)\b", re.I),
}


def census(backend: Backend, plan: bytes, products: Iterable[str], tf32: bool) -> dict[str, int]:
    """Count precisions as :func:`uigc.engines.plan_census.census` does, for the network's products of these names."""
    trt = backend.trt
    runtime = backend.made(lambda: trt.Runtime(backend.logger), "start its runtime")
    engine = backend.checked(runtime.deserialize_cuda_engine(plan), "load the engine that it has just built")
    inspector = backend.checked(engine.create_engine_inspector(), "inspect the engine")
    return read(inspector.get_engine_information(trt.LayerInformationFormat.JSON), products, tf32)


def read(information: str, products: Iterable[str], tf32: bool) -> dict[str, int]:
    """The census of an engine's information in JSON: each product is looked for by its name among the layers."""
    layers = _layers(information)
    counts: Counter[str] = Counter()
    for name in products:
        pattern = re.compile(rf"(?<![\w.]){re.escape(name)}(?![\w.])")
        layer = next((one for one in layers if pattern.search(_names(one))), None)
        found = _precision(layer) if layer else UNKNOWN
        counts["tf32" if found == "fp32" and tf32 else found] += 1
    return dict(sorted(counts.items()))


def _layers(information: str) -> list[dict[str, Any]]:
    """Return the layers that are described; none if the text is of another form, which is not documented."""
    try:
        found = json.loads(information)
    except ValueError:
        return []
    layers = found.get("Layers") if isinstance(found, dict) else None
    return [layer for layer in layers if isinstance(layer, dict)] if isinstance(layers, list) else []


def _names(layer: dict[str, Any]) -> str:
    return f"{layer.get('Name', '')} {layer.get('Metadata', '')}"


def _precision(layer: dict[str, Any]) -> str:
    """Return the precision of the weights if the layer states it, else that of its first input."""
    weights = layer.get("Weights")
    texts = [str(weights["Type"])] if isinstance(weights, dict) and "Type" in weights else []
    inputs = layer.get("Inputs")
    first = inputs[0] if isinstance(inputs, list) and inputs else None
    texts += [str(first.get("Format/Datatype", ""))] if isinstance(first, dict) else []
    return next((name for text in texts for name, word in _WORDS.items() if word.search(text)), UNKNOWN)
