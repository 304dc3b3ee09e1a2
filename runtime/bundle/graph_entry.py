"""What a bundle's manifest says of one of its ONNX files: for a provider, which is given no more than the path."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from uigc.runtime.bundle import manifest as layout
from uigc.runtime.errors import BundleError

TF32_BITS, SUM_BITS = 11, 24  # significant bits of a TF32 operand, and of the float32 that products are summed in


def tf32_is_exact(proof: dict[str, Any]) -> bool:
    """Return True if a stage's proof shows that TF32 rounds nothing in its float32 products: the operands of every
    product have few enough bits, and every sum is exact in float32. Pixel networks have no proof."""
    tightest = proof.get("tightest", {})
    operand = tightest.get("operand", {}).get("bits", TF32_BITS + 1)
    sums = [found["bits"] for kind, found in tightest.items() if kind in ("sums", "partial sums", "products")]
    return bool(operand <= TF32_BITS and max(sums, default=SUM_BITS + 1) <= SUM_BITS)


@dataclass(frozen=True)
class GraphEntry:
    """The entry of the graph ``graph`` (``encoder``, ``stage0`` ..., ``decoder``) in one precision."""

    graph: str
    precision: str
    manifest: dict[str, Any]

    @property
    def _graph(self) -> dict[str, Any]:
        return self.manifest["graphs"][self.graph]

    @property
    def is_stage(self) -> bool:
        """True for a stage of the prior, False for encoder and decoder."""
        return layout.is_stage(self.graph)

    @property
    def dimensions(self) -> tuple[int | str, ...]:
        """The shape of the input: a number for a fixed dimension, a name for a free one."""
        return tuple(self._graph["inputs"][0]["shape"])

    @property
    def tf32_is_exact(self) -> bool:
        """True if TF32 rounds nothing in it: see :func:`tf32_is_exact`."""
        return tf32_is_exact(self.proof)

    @property
    def sha256(self) -> str:
        """SHA-256 of the ONNX file."""
        return self._graph["precisions"][self.precision]["sha256"]

    @property
    def weights_sha256(self) -> str:
        """SHA-256 of the weights beside it."""
        return self.manifest["weights"]["sha256"]

    def lies_in(self, folder: Path) -> bool:
        """Return True if its graph and its weights in a folder are still the files that the manifest describes."""
        graph = folder / self._graph["precisions"][self.precision]["file"]
        weights = folder / layout.WEIGHTS
        return (layout.sha256(graph), _sha256(weights, layout.stamp(weights))) == (self.sha256, self.weights_sha256)

    @property
    def proof(self) -> dict[str, Any]:
        """The proof of exactness of a stage; empty for encoder and decoder."""
        return self._graph["precisions"][self.precision].get("proof", {})


@lru_cache(4)
def _sha256(path: Path, stamp: layout.Stamp | None) -> str:
    """Return the SHA-256 of a file, which is computed once as long as the stamp of its content stays the same."""
    return layout.sha256(path)


def graph_entry(path: Path) -> GraphEntry:
    """Return the entry of an ONNX file from the manifest beside it.

    Whoever loaded the bundle has compared manifest and files. Raises a :class:`BundleError` for any other file.
    """
    manifest = layout.read(path.parent)
    for graph, entry in manifest["graphs"].items():
        for precision, variant in entry["precisions"].items():
            if variant["file"] == path.name:
                return GraphEntry(graph, precision, manifest)
    raise BundleError(f"{path.name} is not a graph of the bundle {path.parent}; give one that its manifest lists.")
