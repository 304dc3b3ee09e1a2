"""Writing the kit, and reading what it states.

A folder with ``kit.json``, the files, the grids and logits that are expected, and a README for those who have nothing
else. ``docs/CONFORMANCE.md`` describes it.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from importlib.resources import files as resources
from pathlib import Path
from typing import Any

import numpy as np

from uigc.runtime.arrays import Tokens
from uigc.runtime.bundle.seal import resealed, sealed
from uigc.runtime.conformance.answers import answer, grid_answer, logits_answer, raw
from uigc.runtime.conformance.cases import file_cases, stage_inputs
from uigc.runtime.conformance.faults import faulty_files
from uigc.runtime.errors import InputError, OutputError
from uigc.runtime.exactness.reference import ReferencePrior
from uigc.runtime.format import bitstream
from uigc.runtime.io import folder
from uigc.runtime.progress import Progress
from uigc.runtime.token_codec import TokenCodec

VERSION = 1
LISTING = "kit.json"
README = "README.md"
MAX_PIXELS = 1 << 22  # what a decoder of the kit has to admit, and the limit that it is told if it can be told one
BEYOND = "side-16384"  # the file that is larger
FAULTY = ("row-edge-drawn", "windows-edge_more+draw255-drawn")  # the files that are altered
FULL = "window"  # the inputs whose logits are in the kit in full
FIRST = 16  # logits of each input that the listing shows


@dataclass
class _Writer:
    """A kit as it grows, in a folder that has no name yet."""

    folder: Path
    codec: TokenCodec
    entries: list[dict[str, Any]] = field(default_factory=list)

    def put(self, name: str, data: bytes) -> str:
        """Write a file; return its SHA-256."""
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
        return hashlib.sha256(data).hexdigest()

    def add_files(self) -> dict[str, bytes]:
        """Write the files that are decoded, with their grids; return them by name."""
        made = {}
        for case in file_cases(self.codec):
            made[case.name] = case.data
            name, grid = f"files/{case.name}.uigc", f"grids/{case.name}.i32"
            self.put(grid, raw(case.grid))
            height, width = case.size
            sizes = {"height": height, "width": width, "rows": case.grid.shape[0], "columns": case.grid.shape[1]}
            self._add(name, case.data, {"mask": case.mask, **sizes, "grid": grid}, grid_answer(case.grid))
        return made

    def add_faulty(self, made: dict[str, bytes], progress: Progress) -> None:
        """Write altered files, with what becomes of each."""
        for number, base in enumerate(FAULTY):
            faulty = {**faulty_files(made[base]), **_cut_and_flipped(made[base])}
            for done, (fault, data) in enumerate(faulty.items()):
                progress("altered files", number * len(faulty) + done, len(FAULTY) * len(faulty))
                size = {"limit": MAX_PIXELS} if fault == BEYOND else {}
                self._add(f"altered/{base.split('-')[0]}-{fault}.uigc", data, size, answer(self.codec, data))

    def add_stages(self, progress: Progress) -> list[dict[str, Any]]:
        """Write inputs of the stages, with their logits as the integer reference computes them."""
        bundle, found = self.codec.bundle, []
        reference = ReferencePrior(bundle.weights.read, bundle.manifest["prior"]["config"], bundle.schedule)
        inputs = list(stage_inputs(self.codec))
        for done, (name, stage, tokens) in enumerate(inputs):
            progress("reference", done, len(inputs))
            found.append(self._stage(name, stage, tokens, reference.logits(tokens, stage)))
        return found

    def _stage(self, name: str, stage: int, tokens: Tokens, logits: Tokens) -> dict[str, Any]:
        batch, rows, columns = tokens.shape
        path = f"stages/stage{stage}-{name}"
        entry = {"stage": stage, "batch": batch, "rows": rows, "columns": columns, "tokens": f"{path}.tokens.i32"}
        entry["sha256"] = self.put(f"{path}.tokens.i32", raw(tokens))
        if name == FULL:
            self.put(f"{path}.logits.i32", raw(logits))
            entry["logits"] = f"{path}.logits.i32"
        first = " ".join(str(value) for value in logits.reshape(-1)[:FIRST].tolist())
        return {**entry, "shape": list(logits.shape), "first": first, "expected": logits_answer(logits)}

    def _add(self, name: str, data: bytes, more: dict[str, Any], expected: str) -> None:
        self.entries.append({"file": name, "sha256": self.put(name, data), **more, "expected": expected})


def _cut_and_flipped(data: bytes) -> dict[str, bytes]:
    """Return the file cut at every byte of its header and in its payload, and with a bit of each byte flipped."""
    header = len(data) - len(bitstream.unpack(data)[1])
    cuts = [*range(3, header), (header + len(data)) // 2]
    flips = [*range(header), (header + len(data)) // 2]
    found = {f"cut-{length:02}": data[:length] for length in cuts}
    for place in flips:
        found[f"flipped-{place:02}"] = data[:place] + bytes([data[place] ^ 1 << place % 8]) + data[place + 1 :]
    return found


def write(codec: TokenCodec, out: Path, force: bool, progress: Progress) -> int:
    """Write the kit of a codec's bundle to the folder ``out``, which appears when it is complete.

    ``codec`` admits images of :data:`MAX_PIXELS`; ``force``: replace a kit at ``out``. Returns its size in bytes.
    """
    if out.exists() and not force:
        raise OutputError(f"{out} exists; name another folder, or let it be replaced (--force).")
    if out.exists() and not (out / LISTING).is_file():
        raise OutputError(f"{out} is not a conformance kit, so it is not replaced; remove it, or give another name.")
    with folder.complete(out) as working:
        _fill(_Writer(working, codec), progress)
    return sum(path.stat().st_size for path in out.rglob("*") if path.is_file())


def _fill(writer: _Writer, progress: Progress) -> None:
    bundle = writer.codec.bundle
    made = writer.add_files()
    writer.add_faulty(made, progress)
    stages = writer.add_stages(progress)
    head = {"kit": VERSION, "format": bitstream.VERSION, "prior": bundle.prior_id.hex(), "max_pixels": MAX_PIXELS}
    writer.put(LISTING, sealed({**head, "files": writer.entries, "stages": stages}))
    text = resources("uigc.runtime.conformance").joinpath(README).read_text(encoding="utf-8")
    writer.put(README, text.replace("PRIOR", bundle.prior_id.hex()).encode())


@dataclass(frozen=True)
class Kit:
    """A kit that was read: its folder, and what ``kit.json`` states."""

    path: Path
    listing: dict[str, Any]

    @classmethod
    def load(cls, path: Path) -> Kit:
        """Read a kit, and compare its inputs with their hashes."""
        try:
            data = (path / LISTING).read_bytes()
            listing = json.loads(data)
            if listing["kit"] != VERSION or resealed(data) != data:
                raise ValueError(f"version {listing['kit']}, or changed after it was written")
            for entry in (*listing["files"], *listing["stages"]):
                name = entry.get("file") or entry["tokens"]
                if hashlib.sha256((path / name).read_bytes()).hexdigest() != entry["sha256"]:
                    raise ValueError(f"{name} does not have the hash that is stated")
        except (AttributeError, KeyError, OSError, TypeError, ValueError) as error:
            reason = f"{type(error).__name__}: {error}"
            raise InputError(f"{path} is no intact conformance kit ({reason}); write it again with -o.") from None
        return cls(path, listing)

    @property
    def max_pixels(self) -> int:
        """The limit on pixels that a decoder is told, if it can be told one."""
        return int(self.listing["max_pixels"])

    def tokens(self, entry: dict[str, Any]) -> Tokens:
        """Return the input of a stage, int32 (batch, rows, columns)."""
        data = np.frombuffer((self.path / entry["tokens"]).read_bytes(), dtype="<i4")
        return data.reshape(entry["batch"], entry["rows"], entry["columns"]).astype(np.int32)
