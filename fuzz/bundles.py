"""Targets that read the parts of a bundle: its manifest, and the file of its weights. Their hashes are repaired."""

from __future__ import annotations

import contextlib
import functools
import json
import random
from typing import Any

import numpy as np

from uigc.fuzz import small_bundle
from uigc.fuzz.changes import altered
from uigc.fuzz.target import Change, Target, always
from uigc.runtime.bundle import Bundle
from uigc.runtime.bundle.manifest import CODEWORDS, MANIFEST, MASK_TABLE, WEIGHTS
from uigc.runtime.bundle.safetensors import TensorFile
from uigc.runtime.bundle.seal import resealed
from uigc.runtime.errors import BundleError
from uigc.runtime.token_codec import staged_prior


def _use(bundle: Bundle) -> None:
    """Ask a bundle for everything that a codec asks for before it loads a graph."""
    staged_prior(bundle, lambda stage: (_ for _ in ()).throw(KeyError(stage)), 1 << 30)
    assert bundle.table(MASK_TABLE).shape == (1024,)
    assert bundle.codewords.ndim == 2
    assert len(bundle.prior_id) == 32
    assert isinstance(bundle.local, bool)
    assert set(bundle.halos) <= {"encoder", "decoder"}
    assert bundle.patch == 16
    for stage in range(len(bundle.schedule)):
        for precision in bundle.precisions(f"stage{stage}"):
            assert bundle.graph(f"stage{stage}", precision).is_file()
            assert bundle.certificate(f"stage{stage}", precision)
    bundle.choose(bundle.pixel_graphs, None, ("fp32",))
    bundle.check_unchanged()


def check_manifest(data: bytes) -> str:
    """Open a bundle with this manifest, with the prior's id derived from the weights and without."""
    path = small_bundle.folder()
    (path / MANIFEST).write_bytes(data)
    with contextlib.suppress(BundleError):
        _use(Bundle.load(path, recompute=False))
    _use(Bundle.load(path))
    return "opened"


def check_weights(data: bytes) -> str:
    """Read every tensor of a file, and open a bundle with these weights."""
    path = small_bundle.folder()
    (path / MANIFEST).write_bytes(small_bundle.manifest_file(data))
    (path / WEIGHTS).write_bytes(data)
    try:
        tensors = TensorFile(path / WEIGHTS)
        for name in tensors:
            with contextlib.suppress(BundleError):
                array = tensors.read(name)
                assert array.nbytes == tensors.nbytes(name)
                assert 0 <= tensors.offset(name) <= len(data) - array.nbytes
        with contextlib.suppress(BundleError):
            _use(Bundle.load(path, recompute=False))
        _use(Bundle.load(path))
    finally:
        (path / WEIGHTS).write_bytes(small_bundle.weights())
    return "opened"


def _mutate_manifest(data: bytes, rng: random.Random, change: Change) -> bytes:
    """Alter the text, or one or two values of the JSON."""
    manifest = _parsed(data if rng.random() < 0.6 else _manifests()["valid"])
    if manifest is None or rng.random() < 0.1:
        return change(data)
    data = json.dumps(altered(manifest if rng.random() < 0.7 else altered(manifest, rng), rng)).encode()
    return resealed(data) if rng.random() < 0.95 else data


def _parsed(data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


def _mutate_weights(data: bytes, rng: random.Random, change: Change) -> bytes:
    """Alter the bytes, the header under a right length, or the numbers."""
    if rng.random() < 0.4:
        data = small_bundle.weights()
    length, way = int.from_bytes(data[:8], "little"), rng.random()
    header = _parsed(data[8 : 8 + length]) if length < len(data) else None
    if header is None or way < 0.1:
        return change(data)
    content = data[8 + length :]
    if way < 0.15 and isinstance(header, dict):  # which changes nothing
        return small_bundle.packed(dict(rng.sample([*header.items(), ("__metadata__", {})], len(header) + 1)), content)
    if way < 0.7:
        return small_bundle.packed(altered(header, rng), content)
    if way < 0.8:
        text = change(data[8 : 8 + length])
        return len(text).to_bytes(8, "little") + text + content
    return data[: 8 + length] + _other_number(content, rng) if way < 0.9 else data[: 8 + length] + change(content)


def _other_number(content: bytes, rng: random.Random) -> bytes:
    """Replace four bytes by a number that arithmetic may stumble on."""
    numbers = np.frombuffer(content[: len(content) // 4 * 4], dtype="<f4").copy()
    if len(numbers):
        numbers[rng.randrange(len(numbers))] = rng.choice((np.nan, np.inf, -np.inf, 3e38, 1e-40, 0.1, -0.0))
    return numbers.tobytes() + content[len(content) // 4 * 4 :]


@functools.cache
def _manifests() -> dict[str, bytes]:
    text = small_bundle.manifest_file(small_bundle.weights()).decode()
    made = {"valid": text, "deep": "[" * 2000, "not-json": "{", "list": "[]"}
    names = {"surrogate": "\ud800", "zero": "a\0"}
    for fault, name in names.items():  # each went wrong once, or is like one that did
        made[f"name-{fault}"] = text.replace('"stage3.onnx"', json.dumps(name))
    made["version-line"] = text.replace(f'"version": {small_bundle.VERSION}', '"version": "a\\nb"')
    made["precision-line"] = text.replace('"fp32"', '"a\\nb"')
    made["no-seal"] = text.replace('"seal"', '"other"')
    assert len({*made.values()}) == len(made)  # each is another
    contents = {name: resealed(content.encode()) for name, content in made.items()}
    return contents | {"changed": contents["valid"].replace(b'"halo": 3', b'"halo": 0', 1)}


def _weights() -> dict[str, bytes]:
    data = small_bundle.weights()
    made = {"valid": data, "empty": b"", "length-largest": b"\xff" * 8 + data[8:100], "cut": data[:100]}
    made["table-of-floats"] = data.replace(b'"I32"', b'"F32"', 1)
    place = len(data) - small_bundle.tensors()[CODEWORDS].nbytes  # where the last weight of the prior ends
    for name, value in (("not-dyadic", 0.1), ("infinite", np.inf)):
        made[name] = data[: place - 4] + np.float32(value).astype("<f4").tobytes() + data[place:]
    return made


MANIFESTS = Target("manifest", check_manifest, _mutate_manifest, _manifests, ".json", always("manifests"), 0.007)
WEIGHT_FILES = Target(
    "weights", check_weights, _mutate_weights, _weights, ".safetensors", always("headers of weights"), 0.005
)
