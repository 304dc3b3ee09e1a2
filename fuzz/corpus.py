"""The small inputs that are kept: ``corpus/TARGET/`` beside this file, and what becomes of its .uigc files.

``corpus/files.tsv`` states for each file in ``corpus/files/`` what the default bundle makes of it, with the limit
:data:`MAX_PIXELS` on its pixels: the error that refuses it, or size and token grid. Decoders in other languages are
tested with it.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from uigc.fuzz import files
from uigc.fuzz.stand_in import MAX_PIXELS
from uigc.fuzz.target import Target
from uigc.runtime.codec import Codec
from uigc.runtime.conformance.faults import faulty_files
from uigc.runtime.format import bitstream, mask
from uigc.runtime.format.grid import grid_shape
from uigc.runtime.format.mask import Mask
from uigc.runtime.format.mask_mode import MaskMode
from uigc.runtime.outcomes import capture

CORPUS = Path(__file__).parent / "corpus"
LISTING = "files.tsv"
COLUMNS = ("file", "outcome", "height", "width", "rows", "columns", "crc32")


def folder(target: Target, corpus: Path = CORPUS) -> Path:
    """Return the folder of a target's inputs; those that read .uigc files share one."""
    return corpus / ("files" if target.suffix == ".uigc" else target.name)


def inputs(target: Target, corpus: Path = CORPUS) -> Iterator[tuple[str, bytes]]:
    """Yield name and bytes of each input of a target."""
    for path in sorted(folder(target, corpus).iterdir()):
        yield path.name, path.read_bytes()


def write(targets: list[Target], corpus: Path = CORPUS) -> None:
    """Write the seeds of targets and the listing; other inputs that are there stay."""
    codec = Codec(max_pixels=MAX_PIXELS, threads=1)
    for target in targets:
        place = folder(target, corpus)
        place.mkdir(parents=True, exist_ok=True)
        for name, data in target.seeds().items():
            (place / f"{name}{target.suffix}").write_bytes(data)
    made = files.valid_files(lambda *arguments: _encoded(codec, *arguments))
    for name, data in {**made, **faulty_files(made["row-edge"])}.items():
        (corpus / "files" / f"{name}.uigc").write_bytes(data)
    rows = [COLUMNS, *(row(codec, path) for path in sorted((corpus / "files").iterdir()))]
    (corpus / LISTING).write_text("".join("\t".join(each) + "\n" for each in rows), encoding="utf-8")


def row(codec: Codec, path: Path) -> tuple[str, ...]:
    """Return the line of the listing for a file; ``-`` stands for what a refused file does not have."""
    data = path.read_bytes()
    outcome = capture(lambda: codec.decode_tokens(data))
    if isinstance(outcome, Exception):
        return path.name, type(outcome).__name__, *"-----"
    header, _ = bitstream.unpack(data)
    check = zlib.crc32(outcome.astype(">i4").tobytes())
    return path.name, "grid", *map(str, (header.height, header.width, *outcome.shape)), f"{check:08x}"


def _encoded(codec: Codec, height: int, width: int, choice: Mask, number: int) -> bytes:
    """Return a file of the default bundle; its tokens repeat, so that they cost little."""
    shape = grid_shape(height, width, bitstream.PATCH)
    rows, columns = np.indices(shape, dtype=np.int32)
    grid = (rows // 3 * 7 + columns // 2 * 11 + number) % codec.bundle.codebook
    edges = np.random.default_rng(number).random(mask.block_shape(*shape)) < 0.3
    edges &= choice.mode is not MaskMode.ENTIRE
    return files.encoded(codec.token_codec, grid.astype(np.int32), (height, width), choice, edges)
