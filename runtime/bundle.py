"""A bundle is a folder: ``manifest.json``, one ONNX graph each for encoder, every stage and decoder, and one
``weights.safetensors`` that the graphs' external data points into. ``docs/BUNDLE.md`` specifies it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uigc.runtime.coder import FARTHEST
from uigc.runtime.errors import BundleError, UigcError
from uigc.runtime.identity import prior_id
from uigc.runtime.mask import CONTEXT_BITS
from uigc.runtime.safetensors import TensorFile
from uigc.runtime.schedule import Schedule

FORMAT = "uigc-bundle"
VERSION = 1
MANIFEST = "manifest.json"
WEIGHTS = "weights.safetensors"
CODER_TABLE = "coder.weights"
MASK_TABLE = "mask.table"
TABLES = {CODER_TABLE: (FARTHEST + 1, 2**19 - 1), MASK_TABLE: (1 << CONTEXT_BITS, 65535)}
"""Length and largest entry of the integer tables among the weights."""
PATCH = 16  # pixels a token covers each way; fixed by the file format
PRIOR_PREFIX = "prior."


def default_path() -> Path:
    """The bundle that ships with the package."""
    return Path(__file__).parent / "default_bundle"


def sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True)
class Bundle:
    """A validated bundle. ``patch`` is the side of a token in pixels, ``window`` that of the prior's windows in tokens,
    ``unknown`` and ``pad`` are the prior's tokens for what is not known and what is outside the picture."""

    path: Path
    manifest: dict[str, Any]
    schedule: Schedule

    @classmethod
    def load(cls, path: Path | str | None = None) -> Bundle:
        """Read and validate; all faults are reported in one error."""
        folder = Path(path) if path is not None else default_path()
        manifest = _read_manifest(folder)
        faults = list(_faults(folder, manifest))
        if faults:
            raise BundleError(f"The bundle {folder} is not usable: {'; '.join(faults)}; export it again.")
        schedule = Schedule.from_json(manifest["schedule"]["tile"], manifest["schedule"]["stages"])
        bundle = cls(folder, manifest, schedule)
        bundle._check_prior_id()
        return bundle

    @property
    def prior_id(self) -> bytes:
        """SHA-256 of everything that decides symbols."""
        return bytes.fromhex(self.manifest["prior"]["id"])

    @property
    def codebook(self) -> int:
        return int(self.manifest["prior"]["codebook"])

    @property
    def window(self) -> int:
        return int(self.manifest["prior"]["window"])

    @property
    def unknown(self) -> int:
        return int(self.manifest["prior"]["unknown"])

    @property
    def pad(self) -> int:
        return int(self.manifest["prior"]["pad"])

    @property
    def patch(self) -> int:
        return int(self.manifest["patch"])

    def graph(self, name: str) -> Path:
        """Path of the graph ``encoder``, ``stage0`` ... or ``decoder``."""
        return self.path / str(self.manifest["graphs"][name]["file"])

    @cached_property
    def weights(self) -> TensorFile:
        return TensorFile(self.path / WEIGHTS)

    def table(self, name: str) -> NDArray[np.int32]:
        return self.weights.read(name).astype(np.int32)

    def _check_prior_id(self) -> None:
        """Recompute the prior's id from the weights; raises if the manifest states another."""
        names = [name for name in self.weights if name.startswith(PRIOR_PREFIX)]
        found = prior_id(
            ((name, self.weights.read(name)) for name in names),
            {name: self.table(name) for name in TABLES},
            self.manifest["prior"]["config"],
            self.manifest["schedule"],
        )
        if found != self.prior_id:
            raise BundleError(
                f"The weights of {self.path} have the prior id {found.hex()[:16]} and its manifest states "
                f"{self.prior_id.hex()[:16]}; export the bundle again."
            )


def _read_manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    if not path.is_file():
        raise BundleError(
            f"There is no bundle at {folder}: {MANIFEST} is missing; give --bundle a folder that uigc wrote."
        )
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise BundleError(f"{path} is not valid JSON ({error}); export the bundle again.") from None
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise BundleError(f"{path} does not describe a {FORMAT}; give --bundle a folder that uigc wrote.")
    if manifest.get("version") != VERSION:
        raise BundleError(
            f"The bundle {folder} has version {manifest.get('version')} and this runtime reads {VERSION}; update uigc."
        )
    return manifest


def _faults(folder: Path, manifest: dict[str, Any]) -> Iterator[str]:
    prior, graphs, weights = (manifest.get(key) for key in ("prior", "graphs", "weights"))
    if not all(isinstance(part, dict) for part in (prior, graphs, weights)):
        yield "the manifest lacks 'prior', 'graphs' or 'weights'"
        return
    assert isinstance(prior, dict)
    assert isinstance(graphs, dict)
    if manifest.get("patch") != PATCH:
        yield f"patch is {manifest.get('patch')} and {PATCH} is needed"
    try:
        schedule = Schedule.from_json(manifest["schedule"]["tile"], manifest["schedule"]["stages"])
    except (BundleError, KeyError, TypeError, ValueError) as error:
        yield f"the schedule is invalid ({error})"
    else:
        yield from _prior_faults(prior, schedule)
        for name in graph_names(schedule):
            yield from _graph_faults(name, graphs.get(name))
    faults = [fault for entry in [*graphs.values(), weights] for fault in _file_faults(folder, entry)]
    yield from faults
    if isinstance(weights, dict) and weights.get("file") != WEIGHTS:
        yield f"weights.file is not {WEIGHTS!r}"
    elif not any(fault.startswith(WEIGHTS) for fault in faults):
        yield from _table_faults(folder)


def graph_names(schedule: Schedule) -> list[str]:
    """Names of the graphs in the order in which a picture passes them."""
    return ["encoder", *(f"stage{stage}" for stage in range(len(schedule))), "decoder"]


def _prior_faults(prior: dict[str, Any], schedule: Schedule) -> Iterator[str]:
    config = prior.get("config")
    if not isinstance(config, dict):
        yield "prior.config is missing"
        return
    codebook, window = prior.get("codebook"), prior.get("window")
    if not isinstance(codebook, int) or codebook & (codebook - 1) or not 4 <= codebook <= 4096:
        yield f"the codebook has {codebook} words and a power of two from 4 to 4096 is needed"
    elif (prior.get("unknown"), prior.get("pad")) != (codebook, codebook + 1):
        yield f"prior.unknown and prior.pad are not {codebook} and {codebook + 1}"
    if not isinstance(window, int) or window < 1 or window % schedule.tile:
        yield f"the window is {window} and a multiple of {schedule.tile} is needed"
    if (config.get("codebook"), config.get("window")) != (codebook, window):
        yield "prior.codebook or prior.window is not that of prior.config"
    identity = prior.get("id")
    if not isinstance(identity, str) or len(identity) != 64 or not all(c in "0123456789abcdef" for c in identity):
        yield "prior.id is not a SHA-256 in hexadecimal"


def _graph_faults(name: str, entry: Any) -> Iterator[str]:
    if not isinstance(entry, dict):
        yield f"the graph {name!r} is not in the manifest"
        return
    kinds = {"encoder": ("image", "tokens"), "decoder": ("tokens", "image")}
    dtypes = {"image": "float32", "tokens": "int32", "logits": "int32"}
    for side, tensor in zip(("inputs", "outputs"), kinds.get(name, ("tokens", "logits")), strict=True):
        values = entry.get(side)
        found = [(v.get("name"), v.get("dtype")) for v in values] if isinstance(values, list) else []
        if found != [(tensor, dtypes[tensor])]:
            yield f"the {side} of {name!r} are {found} and {tensor} {dtypes[tensor]} is needed"


def _file_faults(folder: Path, entry: Any) -> Iterator[str]:
    if not isinstance(entry, dict) or not all(key in entry for key in ("file", "bytes", "sha256")):
        yield "an entry of the manifest lacks 'file', 'bytes' or 'sha256'"
        return
    name = str(entry["file"])
    path = folder / name
    if Path(name).name != name:
        yield f"{name!r} is not a plain file name"
    elif not path.is_file():
        yield f"{name} is missing"
    elif path.stat().st_size != entry["bytes"]:
        yield f"{name} has {path.stat().st_size} bytes and the manifest says {entry['bytes']}"
    elif sha256(path) != entry["sha256"]:
        yield f"{name} does not have the hash of the manifest"


def _table_faults(folder: Path) -> Iterator[str]:
    try:
        tensors = TensorFile(folder / WEIGHTS)
        for name, (length, largest) in TABLES.items():
            table = tensors.read(name)
            if table.shape != (length,) or table.min() < 1 or table.max() > largest:
                yield f"the table {name!r} is not {length} integers from 1 to {largest}"
    except (UigcError, AttributeError, KeyError, OSError, TypeError, ValueError) as error:
        yield f"{WEIGHTS} is unreadable ({error})"
