"""A bundle of a few kilobytes, valid in every respect but that its graphs are no graphs."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uigc.runtime.bundle import manifest as layout
from uigc.runtime.bundle.bundle import PRIOR_PREFIX
from uigc.runtime.bundle.manifest import CODER_TABLE, CODEWORDS, MASK_TABLE, WEIGHTS
from uigc.runtime.bundle.prior_id import prior_id
from uigc.runtime.bundle.safetensors import TensorFile
from uigc.runtime.bundle.seal import resealed
from uigc.runtime.format.entropy_coder import weight_table
from uigc.runtime.format.schedule import quincunx

CODEBOOK = 16
CONFIG = {"codebook": CODEBOOK, "width": 8, "layers": 2, "heads": 2, "expansion": 2, "window": 8, "arithmetic": 3}
VERSION = 4
_TYPES = {
    "<f8": "F64", "<f4": "F32", "<f2": "F16", "<i8": "I64", "<i4": "I32", "<i2": "I16", "|i1": "I8", "|u1": "U8",
    "|b1": "BOOL",
}  # fmt: skip


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def tensors() -> dict[str, NDArray[Any]]:
    """Return the tensors of its weights."""
    rng = np.random.default_rng(0)
    dyadic = rng.integers(-64, 65, (CODEBOOK + 2, 8)).astype("<f4") / 64
    return {
        CODER_TABLE: weight_table().astype("<i4"),
        MASK_TABLE: rng.integers(64, 65472, 1024).astype("<i4"),
        CODEWORDS: (rng.integers(-64, 65, (CODEBOOK, 4)) / 64).astype("<f4"),
        f"{PRIOR_PREFIX}tokens.weight": dyadic,
        f"{PRIOR_PREFIX}head.weight": dyadic[:CODEBOOK] * np.float32(0.5),
    }


def packed(header: Any, content: bytes) -> bytes:
    """Return a safetensors file of any header."""
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + content


@cache
def weights() -> bytes:
    """Return the file of its weights."""
    return stored(tensors())


def stored(arrays: dict[str, NDArray[Any]]) -> bytes:
    """Return the file of tensors by name."""
    header, content = {}, b""
    for name, array in sorted(arrays.items()):
        offsets = [len(content), len(content) + array.nbytes]
        header[name] = {"dtype": _TYPES[array.dtype.str], "shape": list(array.shape), "data_offsets": offsets}
        content += array.tobytes()
    return packed(header, content)


def manifest(data: bytes) -> dict[str, Any]:
    """Return its manifest with ``data`` as the weights, whose hash it states."""
    entry = {"file": WEIGHTS, "bytes": len(data), "sha256": sha256(data)}
    graphs = {name: _graph(name, entry) for name in layout.graph_names(quincunx())}
    return {
        "format": layout.FORMAT,
        "version": VERSION,
        "patch": 16,
        "prior": {
            "id": prior(), "codebook": CODEBOOK, "window": 8, "unknown": CODEBOOK, "pad": CODEBOOK + 1,
            "config": CONFIG,
        },
        "schedule": quincunx().to_json(),
        "tokenizer": {"kind": "uigc", "local": True},
        "opset": 20,
        "made_with": {"uigc": "0.1.0"},
        "calibration": {"report": {"file": WEIGHTS, "bytes": len(data), "sha256": entry["sha256"]}},
        "weights": entry,
        "graphs": graphs,
    }  # fmt: skip


def manifest_file(data: bytes) -> bytes:
    """Return the file of its manifest, sealed, on one line."""
    return resealed(json.dumps({**manifest(data), "seal": "0" * 64}).encode())


def _graph(name: str, weights: dict[str, Any]) -> dict[str, Any]:
    """Return the entry of a graph, with a proof if it is a stage."""
    tensor = {"encoder": ("image", "tokens"), "decoder": ("tokens", "image")}.get(name, ("tokens", "predictions"))
    dtypes = {"image": layout.IMAGES[VERSION], "tokens": "int32", "predictions": "int32"}
    inputs, outputs = ([{"name": each, "dtype": dtypes[each]}] for each in tensor)
    content = name.encode()
    variant: dict[str, Any] = {"file": f"{name}.onnx", "bytes": len(content), "sha256": sha256(content)}
    if name.startswith("stage"):
        proof = {"graph": variant["sha256"], "weights": weights["sha256"], "inputs": {"tokens": [0, CODEBOOK + 1]}}
        variant["proof"] = {**proof, "slack_bits": 1.0}
        return {"inputs": inputs, "outputs": outputs, "precisions": {"fp32": variant}}
    return {"inputs": inputs, "outputs": outputs, "precisions": {"fp32": variant}, "halo": 3}


@cache
def folder() -> Path:
    """Write all but its manifest into a folder that ends with this process, and return its path."""
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # files there cost a tenth
    kept.append(tempfile.TemporaryDirectory(prefix="uigc-fuzz-", dir=memory))
    path = Path(kept[-1].name)
    data = weights()
    (path / WEIGHTS).write_bytes(data)
    for name in layout.graph_names(quincunx()):
        (path / f"{name}.onnx").write_bytes(name.encode())
    return path


@cache
def prior() -> str:
    """Return the id of its prior, in hexadecimal."""
    found = TensorFile(folder() / WEIGHTS)
    names = [name for name in found if name.startswith(PRIOR_PREFIX)]
    tables = {name: found.read(name).astype(np.int32) for name in layout.TABLES}
    return prior_id(((name, found.read(name)) for name in names), tables, CONFIG, quincunx().to_json()).hex()


kept: list[tempfile.TemporaryDirectory[str]] = []
"""Folders that are removed when the process ends."""
