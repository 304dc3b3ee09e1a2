"""Altered bundles for the comparison with the decoder in C++, and what the package makes of each."""

from __future__ import annotations

import json
import random
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uigc.fuzz import small_bundle
from uigc.fuzz.bundles import MANIFESTS, WEIGHT_FILES
from uigc.fuzz.changes import changed, changer
from uigc.runtime.bundle import Bundle
from uigc.runtime.bundle.manifest import CODER_TABLE, MANIFEST, MASK_TABLE, WEIGHTS, graph_names
from uigc.runtime.bundle.seal import resealed
from uigc.runtime.bundle.strict_json import MAX_DEPTH, MAX_NUMBER, MAX_VALUES
from uigc.runtime.errors import UigcError
from uigc.runtime.format.entropy_coder import TokenEntropyModel
from uigc.runtime.format.schedule import quincunx
from uigc.runtime.limits import Limits

Outcome = tuple[int, str]
"""An exit code, and what was read if it is 0."""
Contents = dict[str, bytes | None]
"""The files of a bundle by name; None for a folder in the place of a file."""


def checksum(numbers: NDArray[np.integer[Any]]) -> str:
    """Return the CRC-32 of integers as big-endian int32, in hexadecimal."""
    return f"{zlib.crc32(numbers.astype('>i4').tobytes()):08x}"


def bundles(count: int, rng: random.Random) -> Iterator[Contents]:
    """Make bundles: an intact one, one with each fault of JSON, then altered ones whose hashes hold in most cases."""
    made = [_with_manifest(_manifest()), *map(_with_manifest, _texts())]
    yield from made[:count]
    ways = (_other_manifest, _other_field, _other_weights, _other_layout, _other_number, _other_file)
    for _ in range(count - len(made)):
        yield rng.choice(ways)(rng)


def put(folder: Path, contents: Contents) -> None:
    """Write a bundle."""
    folder.mkdir()
    for name, data in contents.items():
        if data is None:
            (folder / name).mkdir()
        else:
            (folder / name).write_bytes(data)


def outcome(folder: Path) -> Outcome:
    """Return what the package makes of a bundle: an exit code, and stages, limit on pixels and CRC-32 of the model."""
    try:
        bundle = Bundle.load(folder, recompute=False)
    except UigcError as error:
        return int(error.exit_code), ""
    numbers = [bundle.codebook, bundle.window, bundle.unknown, bundle.pad, bundle.schedule.tile, *bundle.prior_id[:4]]
    model = TokenEntropyModel(bundle.table(CODER_TABLE), bundle.codebook)
    numbers.append(model.columns if bundle.has_sums else bundle.codebook)
    numbers += [place for stage in bundle.schedule.stages for position in stage for place in position]
    tables = bundle.table(CODER_TABLE), bundle.table(MASK_TABLE)
    found = checksum(np.concatenate([np.array(numbers, dtype=np.int32), *tables]))
    return 0, f"{len(bundle.schedule)} {Limits(bundle.local).pixels} {found}"


def _manifest(weights: bytes | None = None) -> bytes:
    return small_bundle.manifest_file(weights or small_bundle.weights())


def _with_manifest(manifest: bytes, weights: bytes | None = None) -> Contents:
    graphs = {f"{name}.onnx": name.encode() for name in graph_names(quincunx())}
    return {**graphs, WEIGHTS: weights or small_bundle.weights(), MANIFEST: resealed(manifest)}


def _other_manifest(rng: random.Random) -> Contents:
    """Alter the manifest; its seal fits in most cases."""
    return _with_manifest(b"") | {MANIFEST: MANIFESTS.mutate(_manifest(), rng, changer(rng))}


FIELDS = (
    "version", "patch", "prior.codebook", "prior.window", "prior.unknown", "prior.pad", "prior.id", "schedule.tile",
    "prior.config.codebook", "prior.config.window", "prior.config.layers", "prior.config.heads", "prior.config.width",
    "schedule.stages.2.1.0", "schedule.stages.5.3", "schedule.stages.1", "schedule.stages", "tokenizer",
    "tokenizer.local", "graphs.encoder.halo", "graphs.decoder.halo", "graphs.encoder.precisions.fp32.bytes",
    "graphs.stage3.precisions.fp32.file", "graphs.stage3.precisions.fp32.sha256", "graphs.stage0.inputs.0.name",
    "graphs.stage0.outputs.0.dtype", "graphs.stage0.outputs.0.name", "graphs.stage4.precisions.fp32",
    "graphs.stage4.precisions.fp32.proof.slack_bits",
    "graphs.stage4.precisions.fp32.proof.inputs.tokens.1", "graphs.stage4.precisions.fp32.proof.inputs.tokens.0",
    "graphs.stage4.precisions.fp32.proof.inputs", "graphs.stage4.precisions.fp32.proof.graph", "weights.bytes",
    "graphs.stage4.precisions.fp32.proof.weights", "weights.file", "calibration", "calibration.report",
)  # fmt: skip
"""Values of a manifest that are read, as the keys and places that lead to them."""
NUMBERS = (0, 1, 2, 3, 4, 8, 15, 16, 17, 24, 63, 64, 65, 256, 257, 1024, 1025, 4096, 4097, 16384, 16385, 2**63)


def _other_field(rng: random.Random) -> Contents:
    """Replace a value that is read by another at the edge of what may stand there, or add one beside it."""
    manifest = json.loads(_manifest())
    *way, last = rng.choice(FIELDS).split(".")
    around: Any = manifest
    for key in way:
        around = around[int(key) if isinstance(around, list) else key]
    place: Any = int(last) if isinstance(around, list) else last
    number, old = rng.choice(NUMBERS), around[place]
    others: tuple[Any, ...] = (
        number, number, -number, float(number), number + 0.5, str(number), [number], {}, [], None, True, False,
    )  # fmt: skip
    beside = ([*old, number] if isinstance(old, list) else old, {**old, "a": number} if isinstance(old, dict) else old)
    around[place] = rng.choice((*others, *beside))
    return _with_manifest(json.dumps(manifest).encode())


def _other_layout(rng: random.Random) -> Contents:
    """Move a tensor to another place in the file: over others, beyond the end, or with a gap before or behind it."""
    weights = small_bundle.weights()
    length = int.from_bytes(weights[:8], "little")
    header, content = json.loads(weights[8 : 8 + length]), weights[8 + length :]
    names = sorted(header, key=lambda name: int(header[name]["data_offsets"][0]))
    moved = names[rng.randrange(len(names)) :] if rng.random() < 0.5 else [rng.choice(names)]
    by = rng.choice((-4, 0, 4, 64, len(content)))
    for name in moved:
        header[name]["data_offsets"] = [offset + by for offset in header[name]["data_offsets"]]
    content += bytes(rng.choice((0, 0, 4, 64)))
    weights = small_bundle.packed(header, content)
    return _with_manifest(_manifest(weights), weights)


def _other_weights(rng: random.Random) -> Contents:
    weights = WEIGHT_FILES.mutate(small_bundle.weights(), rng, changer(rng))
    return _with_manifest(_manifest(weights), weights)


def _other_number(rng: random.Random) -> Contents:
    """Put another number into a table or into the codebook, in any type that holds it."""
    arrays = small_bundle.tensors()
    name = rng.choice(sorted(arrays))
    dtype = rng.choice(("<i8", "<i4", "<i2", "|i1", "|u1", "<f8", "<f4", "<f2", "|b1"))
    with np.errstate(over="ignore", invalid="ignore"):
        array = (arrays[name] * rng.choice((1, 1, 0, -1))).astype(dtype)
        if array.dtype.kind != "b":
            number = rng.choice((0, -1, 1, 127, 255, 65535, 65536, 2**19 - 1, 2**19, -(2**31), np.nan, np.inf))
            array.reshape(-1)[rng.randrange(array.size)] = np.array(number, dtype=np.float64).astype(dtype)
    arrays[name] = array
    weights = small_bundle.stored(arrays)
    return _with_manifest(_manifest(weights), weights)


def _other_file(rng: random.Random) -> Contents:
    """Alter, cut, remove or replace a file whose hash stays as it was."""
    contents = _with_manifest(_manifest())
    name = rng.choice(sorted(contents))
    data = contents[name] or b""
    actions: tuple[Callable[[], bytes | None], ...] = (
        lambda: changed(data, rng), lambda: data[: rng.randrange(len(data) + 1)], lambda: data + b"\0", lambda: None,
    )  # fmt: skip
    if rng.random() < 0.2:
        del contents[name]
    else:
        contents[name] = rng.choice(actions)()
    return contents


def _texts() -> Iterator[bytes]:
    """Yield manifests with one peculiarity of JSON each; readers differ on some of them."""
    text = _manifest()

    def with_value(value: bytes) -> bytes:
        return text.replace(b'"opset": 20', b'"opset": ' + value)

    yield from (with_value(value.encode()) for value in VALUES)
    for inside in (b"\xed\xa0\x80", b"\xff", b"\xc0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82", b"\0", b"\x7f"):
        yield with_value(b'"' + inside + b'"')
    yield from (with_value(b'1, "opset": 1'), with_value(b"[" + b"1," * MAX_VALUES + b"1]"))
    yield from (b"\xef\xbb\xbf" + text, text.decode().encode("utf-16"), b"\x0c" + text, text + b" \r\n\t")
    yield from (text + b"\0", text + b"{}", b"", b" ", b"null", b"[]", b"3", b"[" * 100_000, text + b" " * (1 << 24))
    stated, version = f'"version": {small_bundle.VERSION}'.encode(), small_bundle.VERSION
    assert text.count(stated) == 1
    for number in (f"{version}.0", f"{version}e0", f"{version}0e-1", "true", f'"{version}"', str(version + 1)):
        yield text.replace(stated, b'"version": ' + number.encode())
    for seals in (b'"opset"', b'"other": {"seal": "' + b"0" * 64 + b'"}, "opset"', b'"seal": "0", "opset"'):
        yield text.replace(b'"seal"', b'"other"' if seals == b'"opset"' else b'"seal"').replace(b'"opset"', seals)


VALUES = (
    "NaN", "Infinity", "-Infinity", "-", "01", "1.", ".5", "+1", "1e", "1e5", "-0", "1e999", "0x1", "truE", "nul", "",
    "1" * MAX_NUMBER, "1" * (MAX_NUMBER + 1), "0." + "1" * MAX_NUMBER, "'x'", '"\t"', '"\\x"', '"\\u12"', '"\\u00e9"',
    '"\\ud83d\\ude00"', '"\\ud83d"', '"\\ude00\\ud83d"', '"\\ud83d\\u0041"', '"\\ud83d\\u00"', '"é"', '"\\""',
    "[" * (MAX_DEPTH - 1) + "]" * (MAX_DEPTH - 1), "[" * MAX_DEPTH + "]" * MAX_DEPTH, "[1,]", "[,]", "[1 2]",
    '{"a"}', '{"a": 1, "a": 1}', '{"a": 1, "\\u0061": 2}', "{1: 2}", "/* */ 1",
)  # fmt: skip
"""Values of JSON, or what is none."""
