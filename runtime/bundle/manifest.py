"""The manifest of a bundle: reading it, and finding its faults. ``docs/BUNDLE.md`` specifies it."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np

from uigc.runtime.bundle import strict_json
from uigc.runtime.bundle.safetensors import TensorFile
from uigc.runtime.bundle.seal import check_seal
from uigc.runtime.errors import BundleError, UigcError
from uigc.runtime.format.bitstream import PATCH
from uigc.runtime.format.entropy_coder import FARTHEST, LARGEST_WEIGHT, SUMMED_EXACTLY, low_digits
from uigc.runtime.format.mask_coding import CONTEXT_BITS
from uigc.runtime.format.schedule import Schedule

FORMAT = "uigc-bundle"
VERSION = 4
"""The version that the exporter writes."""
IMAGES = {2: "float32", 3: "uint8", 4: "uint8"}
"""The versions that this runtime reads, and the type of images at the ends of their encoder and pixel decoder: planes
(batch, 3, H, W) of numbers in [0, 1], or bytes (batch, H, W, 3)."""
MANIFEST = "manifest.json"
WEIGHTS = "weights.safetensors"
CODER_TABLE = "coder.weights"
MASK_TABLE = "mask.table"
CODEWORDS = "tokenizer.quantizer.words"
TABLES = {CODER_TABLE: (FARTHEST + 1, LARGEST_WEIGHT), MASK_TABLE: (1 << CONTEXT_BITS, 65535)}
"""The integer tables among the weights: length and largest entry of each."""
# Nothing in a manifest is larger than these, and nothing is allocated before they are checked (docs/SECURITY.md).
MAX_MANIFEST = 1 << 24  # bytes
MAX_NAME = 200  # bytes of a file's name
MAX_SHOWN = 300  # characters of a manifest that a fault shows
MAX_WINDOW = 256  # tokens each way
MAX_HALO = 1 << 12  # tokens
SIZES = {"layers": 1 << 10, "heads": 1 << 8, "width": 1 << 14}
"""The largest sizes of a prior, by their names in ``prior.config``."""
_NAME = re.compile(r"[\w-][\w.-]*", re.ASCII)
PRECISIONS = ("fp32", "fp16", "int8")
INT8_WEIGHT_MAX = 63
"""Largest magnitude of a weight in an int8 graph: 7 bits, because int8 kernels of CPUs without VNNI add two products in
16 bits, and saturate where both operands have 8."""


def is_plain_name(name: object) -> TypeGuard[str]:
    """Return True for a file in the bundle's own folder, by a name that every file system and terminal can hold."""
    return isinstance(name, str) and len(name) <= MAX_NAME and _NAME.fullmatch(name) is not None


def shown(text: object) -> str:
    """Return text from a manifest as an error may show it: in one line, and not at length."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in str(text)[:MAX_SHOWN])


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


Stamp = tuple[int, int, int]
"""Identity of a file's content without reading it: inode, size in bytes, and time of the last change in nanoseconds."""


def stamp(path: Path) -> Stamp | None:
    """Return the stamp of a file, None if there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def file_entry(path: Path) -> dict[str, Any]:
    """Return what a manifest states about a file beside it."""
    return {"file": path.name, "bytes": path.stat().st_size, "sha256": sha256(path)}


def read(folder: Path) -> dict[str, Any]:
    """Read the manifest of a bundle of a version that this runtime reads."""
    path = folder / MANIFEST
    if not path.is_file():
        raise BundleError(
            f"There is no bundle at {folder}: {MANIFEST} is missing; name a folder that 'uigc export' wrote."
        )
    if path.stat().st_size > MAX_MANIFEST:
        raise BundleError(f"{path} has more than {MAX_MANIFEST} bytes, and no manifest has; export the bundle again.")
    try:
        data = path.read_bytes()
        manifest = strict_json.loads(data)
    except ValueError as error:
        raise BundleError(f"{path} is not valid JSON ({error}); export the bundle again.") from None
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise BundleError(f"{path} does not describe a {FORMAT}; name a folder that 'uigc export' wrote.")
    version = manifest.get("version")
    if type(version) is not int or version not in IMAGES:
        raise BundleError(
            f"The bundle {folder} has version {shown(version)} and this runtime reads {min(IMAGES)} to {max(IMAGES)}; "
            "update uigc."
        )
    check_seal(data, path)
    return manifest


def faults(folder: Path, manifest: dict[str, Any]) -> Iterator[str]:
    """Yield every fault of a bundle: of its manifest, and of the files that the manifest names."""
    prior, graphs, weights = (manifest.get(key) for key in ("prior", "graphs", "weights"))
    if not all(isinstance(part, dict) for part in (prior, graphs, weights)):
        yield "the manifest lacks 'prior', 'graphs' or 'weights'"
        return
    assert isinstance(prior, dict)
    assert isinstance(graphs, dict)
    if manifest.get("patch") != PATCH:
        yield f"patch is {manifest.get('patch')} and {PATCH} is needed"
    yield from _tokenizer_faults(manifest.get("tokenizer", {}))
    try:
        schedule = Schedule.from_json(manifest["schedule"]["tile"], manifest["schedule"]["stages"])
    except (BundleError, KeyError, TypeError, ValueError) as error:
        yield f"the schedule is invalid ({error})"
    else:
        yield from _prior_faults(prior, schedule)
        names, images, output = graph_names(schedule), IMAGES[manifest["version"]], _stage_output(manifest)
        for name in names if "encoder" in graphs else names[1:]:
            yield from _graph_faults(name, graphs.get(name), images, output, "encoder" in graphs)
            if is_stage(name) and isinstance(weights, dict):
                yield from _proof_faults(name, graphs.get(name), prior.get("pad"), weights.get("sha256"))
    entries = [variant for graph in graphs.values() if isinstance(graph, dict) for variant in _variants(graph).values()]
    calibration = manifest.get("calibration", {})  # of the int8 graphs of encoder and decoder, where there are any
    entries += calibration.values() if isinstance(calibration, dict) else [None]
    found = [fault for entry in [*entries, weights] for fault in _file_faults(folder, entry)]
    yield from found
    if isinstance(weights, dict) and weights.get("file") != WEIGHTS:
        yield f"weights.file is not {WEIGHTS!r}"
    elif not any(fault.startswith(WEIGHTS) for fault in found):
        yield from _table_faults(folder, prior.get("codebook"))


def graph_names(schedule: Schedule) -> list[str]:
    """Return the names of the graphs in the order in which an image passes through them."""
    return ["encoder", *(f"stage{stage}" for stage in range(len(schedule))), "decoder"]


def is_stage(graph: str) -> bool:
    """Return True for the name of a stage of the prior, False for ``encoder`` and ``decoder``."""
    return graph.startswith("stage")


def has_sums(version: int, codebook: int) -> bool:
    """Return whether the stages of a bundle return ``predictions``, logits with sums over them, and not ``logits``:
    from version 4 on, where float32 holds the sums."""
    return version >= 4 and low_digits(codebook) <= SUMMED_EXACTLY


def _is_count(value: object, largest: int) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= largest


def is_codebook_size(size: object) -> TypeGuard[int]:
    """Return whether the entropy coder and the file format allow a codebook of that many codewords."""
    return isinstance(size, int) and 4 <= size <= 4096 and not size & (size - 1)


def files(folder: Path, manifest: dict[str, Any]) -> Iterator[Path]:
    """Yield the paths of the weights and of all graphs, as far as the manifest names them."""
    graphs = manifest.get("graphs")
    entries = [manifest.get("weights")]
    for graph in graphs.values() if isinstance(graphs, dict) else ():
        entries += _variants(graph).values() if isinstance(graph, dict) else ()
    for entry in entries:
        if isinstance(entry, dict) and is_plain_name(entry.get("file")):
            yield folder / entry["file"]


def _tokenizer_faults(tokenizer: Any) -> Iterator[str]:
    local = tokenizer.get("local", True) if isinstance(tokenizer, dict) else None
    if not isinstance(local, bool):
        yield "tokenizer.local is neither true nor false"


def _prior_faults(prior: dict[str, Any], schedule: Schedule) -> Iterator[str]:
    config = prior.get("config")
    if not isinstance(config, dict):
        yield "prior.config is missing"
        return
    codebook, window = prior.get("codebook"), prior.get("window")
    if not is_codebook_size(codebook):
        yield f"the codebook has {codebook} codewords and a power of two from 4 to 4096 is needed"
    elif (prior.get("unknown"), prior.get("pad")) != (codebook, codebook + 1):
        yield f"prior.unknown and prior.pad are not {codebook} and {codebook + 1}"
    if not _is_count(window, MAX_WINDOW) or window % schedule.tile:
        yield f"the window is {window} and a multiple of {schedule.tile} up to {MAX_WINDOW} is needed"
    for name, largest in SIZES.items():
        if not _is_count(config.get(name), largest):
            yield f"prior.config.{name} is {config.get(name)!r} and 1 to {largest} is needed"
    if (config.get("codebook"), config.get("window")) != (codebook, window):
        yield "prior.codebook or prior.window is not that of prior.config"
    identity = prior.get("id")
    if not isinstance(identity, str) or len(identity) != 64 or not all(c in "0123456789abcdef" for c in identity):
        yield "prior.id is not a SHA-256 in hexadecimal"


def _variants(graph: dict[str, Any]) -> dict[str, Any]:
    """Return the entry of each precision of a graph."""
    variants = graph.get("precisions")
    return variants if isinstance(variants, dict) else {}


def _stage_output(manifest: dict[str, Any]) -> str:
    """Return the name of what the stages of a bundle return."""
    codebook = manifest["prior"].get("codebook")  # what is no size is a fault of its own
    return "predictions" if is_codebook_size(codebook) and has_sums(manifest["version"], codebook) else "logits"


def _graph_faults(name: str, graph: Any, images: str, output: str, encodes: bool) -> Iterator[str]:
    """Yield the faults of a graph; ``images``: the type of images; ``output``: what stages return; ``encodes``: whether
    the bundle has an encoder, and so all graphs in fp32."""
    if not isinstance(graph, dict):
        yield f"the graph {name!r} is not in the manifest"
        return
    kinds = {"encoder": ("image", "tokens"), "decoder": ("tokens", "image")}
    dtypes = {"image": images, "tokens": "int32", output: "int32"}
    for side, tensor in zip(("inputs", "outputs"), kinds.get(name, ("tokens", output)), strict=True):
        values = graph.get(side)
        values = [v for v in values if isinstance(v, dict)] if isinstance(values, list) else []
        found = [(v.get("name"), v.get("dtype")) for v in values]
        if found != [(tensor, dtypes[tensor])]:
            yield f"the {side} of {name!r} are {found} and {tensor} {dtypes[tensor]} is needed"
    halo = graph.get("halo")
    if halo not in (None, 0) and not _is_count(halo, MAX_HALO):
        yield f"the halo of {name!r} is {halo!r} and a number of tokens is needed"
    precisions = _variants(graph)
    needed = "fp32" if encodes else "one"
    if not precisions or (encodes and "fp32" not in precisions) or not set(precisions) <= set(PRECISIONS):
        there, known = ", ".join(precisions) or "no precision", ", ".join(PRECISIONS)
        yield f"{name!r} is in {there}: {needed} is needed, and only {known} are known"


def _proof_faults(name: str, graph: Any, pad: Any, weights: Any) -> Iterator[str]:
    """Yield a fault for every precision of a stage without a proof for this very graph and these weights."""
    for precision, entry in _variants(graph if isinstance(graph, dict) else {}).items():
        proof = entry.get("proof") if isinstance(entry, dict) else None
        if not isinstance(proof, dict):
            yield f"{name} {precision} has no proof of exactness"
        elif (proof.get("graph"), proof.get("weights")) != (entry.get("sha256"), weights):
            yield f"the proof of {name} {precision} belongs to another graph or to other weights"
        elif proof.get("inputs") != {"tokens": [0, pad]}:
            yield f"the proof of {name} {precision} does not cover the tokens from 0 to {pad}"
        elif not isinstance(proof.get("slack_bits"), int | float) or proof["slack_bits"] < 0:
            yield f"the proof of {name} {precision} states a slack of {proof.get('slack_bits')} bits"


def _file_faults(folder: Path, entry: Any) -> Iterator[str]:
    if not isinstance(entry, dict) or not all(key in entry for key in ("file", "bytes", "sha256")):
        yield "an entry of the manifest lacks 'file', 'bytes' or 'sha256'"
        return
    name = entry["file"]
    if not is_plain_name(name):
        yield f"{name!r:.{MAX_NAME}} is not a plain file name of at most {MAX_NAME} bytes"
        return
    path = folder / name
    if not path.is_file():
        yield f"{name} is missing"
    elif path.stat().st_size != entry["bytes"]:
        yield f"{name} has {path.stat().st_size} bytes and the manifest states {entry['bytes']}"
    elif sha256(path) != entry["sha256"]:
        yield f"{name} does not have the hash that the manifest states"


def _table_faults(folder: Path, codebook: object) -> Iterator[str]:
    try:
        tensors = TensorFile(folder / WEIGHTS)
        for name, (length, largest) in TABLES.items():
            table = tensors.read(name)
            if table.dtype.kind not in "iu" or table.shape != (length,) or table.min() < 1 or table.max() > largest:
                yield f"the table {name!r} is not {length} integers from 1 to {largest}"
        words = tensors.read(CODEWORDS)
        if words.ndim != 2 or len(words) != codebook or not (np.isfinite(words).all() and words.any()):
            yield f"{CODEWORDS!r} is not a codebook"
    except (UigcError, AttributeError, KeyError, OSError, TypeError, ValueError) as error:
        yield f"{WEIGHTS} is unreadable ({error})"
