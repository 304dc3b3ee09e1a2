"""The record of a calibration: its data as JSON, and a table for people."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import onnx

from uigc.calibration.graph import scale
from uigc.calibration.layers import Layer
from uigc.calibration.network import Network
from uigc.calibration.photographs import Photograph
from uigc.calibration.quality import Budget, Quality
from uigc.calibration.ranges import PERCENTILE
from uigc.calibration.search import Found
from uigc.runtime.bundle.manifest import INT8_WEIGHT_MAX
from uigc.runtime.providers.library import import_onnxruntime

onnxruntime = import_onnxruntime()

SCHEMA = 1


@dataclass(frozen=True)
class Part:
    """The outcome for one network: what was ``found``, the ``graph`` as the manifest lists it, how many ``integer``
    convolutions ONNX Runtime makes of it on this machine, and of the encoder the share of tokens that stayed the
    ``same``."""

    network: Network
    found: Found
    graph: dict[str, Any]
    integer: int
    same: float | None


def data(
    parts: list[Part], budget: Budget, observed: list[Photograph], measured: list[Photograph], fingerprint: str | None
) -> dict[str, Any]:
    """Return the content of ``calibration.json``; ``fingerprint``: SHA-256 of the networks behind LPIPS."""
    return {
        "schema": SCHEMA,
        "made_with": {"onnx": onnx.__version__, "onnxruntime": onnxruntime.__version__},
        "budget": asdict(budget),
        "networks": fingerprint,
        "percentile": PERCENTILE,
        "weight_levels": INT8_WEIGHT_MAX,
        "pictures": {"observed": _names(observed), "measured": _names(measured)},
        "graphs": {part.network.name: _part(part) for part in parts},
    }


def _names(photographs: list[Photograph]) -> list[dict[str, str]]:
    return [{"name": photograph.name, "sha256": photograph.sha256} for photograph in photographs]


def _part(part: Part) -> dict[str, Any]:
    found = part.found
    return {
        "graph": part.graph["sha256"],
        "method": found.method,
        "fp32": _quality(found.exact),
        "int8": _quality(found.quality),
        "methods": {name: _quality(quality) for name, quality in found.methods.items()},
        "same_tokens": part.same,
        "integer_convolutions": part.integer,
        "layers": [
            {
                "layer": layer.name,
                "weight": layer.weight,
                "precision": "fp16" if layer.name in found.left else "int8",
                "alone": _quality(found.alone[layer.name]),
                "tensors": [
                    {
                        "tensor": tensor,
                        "role": role,
                        "method": found.method,
                        "range": ranges[found.method],
                        "scale": scale(ranges[found.method]),
                        "ranges": ranges,
                    }
                    for tensor, role, ranges in zip(
                        (layer.input, layer.output), ("input", "output before bias"), found.ranges[layer.name],
                        strict=True,
                    )
                ],
            }
            for layer in part.network.layers
        ]
        + [
            {"layer": layer.name, "weight": layer.weight, "precision": "fp16", "alone": None, "tensors": []}
            for layer in part.network.light
        ],
    }  # fmt: skip


def _quality(quality: Quality) -> dict[str, float | None]:
    return {name: None if value is None else round(value, 5) for name, value in asdict(quality).items()}


def table(parts: list[Part], budget: Budget, images: tuple[int, int]) -> str:
    """Return the content of ``calibration.md``; ``images``: the numbers of images observed and measured."""
    allowed = f"{budget.psnr} dB" + ("" if budget.lpips is None else f" and {budget.lpips} LPIPS")
    lines = [
        "# Calibration",
        "",
        f"Ranges observed on {images[0]} images, costs measured on {images[1]} others. Allowed for each network: "
        f"a loss of {allowed} against float32. docs/CALIBRATION.md explains the columns.",
    ]
    for part in parts:
        lines += ["", f"## {part.network.name}", "", *_summary(part), "", *_layers(part)]
    return "\n".join(lines) + "\n"


def _summary(part: Part) -> list[str]:
    found, total = part.found, len(part.network.layers) + len(part.network.light)
    quantized = len(part.network.layers) - len(found.left)
    text = f"{quantized} of {total} layers in int8, ranges by {found.method}; {part.integer} run in integers"
    if part.same is not None:
        text += f"; {part.same:.1%} of the tokens are those of float32".replace("%", " %")
    rows = [("fp32", found.exact), ("int8", found.quality)]
    rows += [(f"all layers, {method}", quality) for method, quality in found.methods.items()]
    head = ["| | PSNR dB | LPIPS | like fp32 dB |", "|---|---|---|---|"]
    return [f"{text} on the CPU that calibrated.", "", *head, *(f"| {name} | {_cells(each)} |" for name, each in rows)]


def _cells(quality: Quality) -> str:
    lpips = "-" if quality.lpips is None else f"{quality.lpips:.4f}"
    return f"{quality.psnr:.3f} | {lpips} | {'-' if quality.likeness is None else f'{quality.likeness:.1f}'}"


def _layers(part: Part) -> list[str]:
    found = part.found
    lines = ["| in int8 alone | PSNR lost | LPIPS gained | like fp32 dB | input range | output range | kept as |"]
    lines.append("|---|---|---|---|---|---|---|")
    for layer in part.network.layers:
        alone, (one, other) = found.alone[layer.name], found.ranges[layer.name]
        psnr, lpips = alone.lost(found.exact)
        cells = [
            _label(layer),
            f"{psnr:z.4f}",
            "-" if lpips is None else f"{lpips:z.5f}",
            f"{alone.likeness or 0:.1f}",
            f"{one[found.method]:.4g}",
            f"{other[found.method]:.4g}",
            "fp16" if layer.name in found.left else "int8",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines + [f"| {_label(layer)} | - | - | - | - | - | fp16, light |" for layer in part.network.light]


def _label(layer: Layer) -> str:
    return layer.weight.removeprefix("tokenizer.").removesuffix(".weight")
