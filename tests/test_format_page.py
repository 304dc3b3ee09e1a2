"""Section 7 of docs/FORMAT.md takes a golden file apart: all of it is computed here again, from the file.

The range coder's steps, the grid and the logits are those of the decoder that was written from the page alone; the
header is the package's. A block of the page that is not computed, or is computed otherwise, fails.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Iterator, Sequence
from textwrap import indent

import numpy as np
import pytest

from tests.support import reference_coder, reference_decoder
from tests.support.paths import ROOT
from tests.support.tiny import reference_grid
from uigc.runtime.bundle.bundle import default_path
from uigc.runtime.bundle.manifest import CODER_TABLE, MASK_TABLE, WEIGHTS
from uigc.runtime.codec import Codec
from uigc.runtime.format import bitstream
from uigc.runtime.format.mask import block_shape
from uigc.runtime.format.regeneration import random_numbers

NAME = "coffee-edge_more+draw7"
DATA = (ROOT / "tests" / "golden" / f"{NAME}.uigc").read_bytes()
HEADER, PAYLOAD = bitstream.unpack(DATA)
PAGE = (ROOT / "docs" / "FORMAT.md").read_text(encoding="utf-8")
EXPECTED = json.loads((ROOT / "tests" / "golden" / "coffee.json").read_text())
SENT = np.array(EXPECTED["sent"][NAME.removeprefix("coffee-")])
GRID = np.array(EXPECTED["grids"][NAME.removeprefix("coffee-")])


class Traced(reference_coder.Reader):
    """A range decoder that keeps its states, and what it read in between."""

    states: list[tuple[int, int, int]]
    steps: list[tuple[int, int, int, int]]

    def __init__(self, payload: bytes) -> None:
        super().__init__(payload)
        Traced.states, Traced.steps = [(self.lower, self.range, self.point)], []

    def read(self, table: Sequence[int]) -> int:
        quantile = (self.point - self.lower & reference_coder.MASK) // (self.range >> 24)
        symbol = super().read(table)
        self.states.append((self.lower, self.range, self.point))
        self.steps.append((quantile, table[symbol], table[symbol + 1], symbol))
        return symbol


@pytest.fixture(scope="module")
def codec() -> Iterator[Codec]:
    """A codec with which the file has been decoded under :class:`Traced`."""
    with Codec(threads=1) as codec, pytest.MonkeyPatch.context() as patch:
        patch.setattr(reference_decoder, "Reader", Traced)
        assert reference_grid(codec, DATA) == GRID.tolist()
        yield codec


def rows(lines: list[Sequence[object]], widths: Sequence[int]) -> str:
    """Lay out lines in columns, as the page has them."""
    text = [" ".join(str(value).ljust(width) for value, width in zip(line, widths, strict=True)) for line in lines]
    return "\n".join(line.rstrip() for line in text) + "\n"


def header(_: Codec) -> str:
    fields = [
        (3, "magic", DATA[:3].decode()),
        (1, "version", HEADER.version),
        (1, "mask mode", f"{DATA[4]}: {HEADER.mode.label}, lost tokens are drawn"),
        (4, "id of the prior", HEADER.prior_id.hex()),
        (4, "CRC-32", f"of the other {len(DATA) - 4} bytes"),
        (2, "width - 1", f"{DATA[13] & 127} * 128 + {DATA[14]} = {HEADER.width - 1}"),
        (2, "height - 1", f"{DATA[15] & 127} * 128 + {DATA[16]} = {HEADER.height - 1}"),
        (1, "seed", HEADER.seed),
        (2, "length", f"{DATA[18] & 127} * 128 + {DATA[19]} = {len(PAYLOAD)}"),
        (8, "payload", f"its first two words; it ends with the file, at {len(DATA)}"),
    ]
    lines: list[Sequence[object]] = [("offset", "bytes", "field", "value")]
    offset = 0
    for length, field, value in fields:
        lines.append((offset, DATA[offset : offset + length].hex(" "), field, value))
        offset += length
    assert offset - 8 + len(PAYLOAD) == len(DATA)
    return rows(lines, (7, 25, 17, 1))


def tokens(codec: Codec) -> str:
    schedule = codec.bundle.schedule
    stage_of = schedule.stage_of(*GRID.shape)
    stages = range(len(schedule))
    counted = [
        ("tokens", [int((stage_of == stage).sum()) for stage in stages]),
        ("sent", [int(SENT[stage_of == stage].sum()) for stage in stages]),
        ("logits, n", [32 * 48 // 16 * len(positions) for positions in schedule.stages]),
    ]
    lines = [("stage", *stages), *((name, *numbers) for name, numbers in counted)]
    return rows(lines, (11, *[5] * len(stages)))


def refilled(first: int) -> int:
    """Return the first symbol from ``first`` on after which the coder takes in another word."""
    return next(at for at in range(first, len(Traced.steps)) if Traced.states[at + 1][1] & 0xFFFFFFFF == 0)


def coder(_: Codec) -> str:
    bits = int(np.prod(block_shape(*GRID.shape)))
    first = int(SENT[::4, ::4].sum())  # the tokens of stage 0
    assert refilled(bits) - bits < GRID.shape[1] / 4  # in the first row
    named = {f"bit {number}": number for number in (0, 1, 2, 3, 4, 5, bits - 1)}
    named |= {f"(0,{4 * (at - bits)}) high": at for at in (bits, bits + 1, refilled(bits))}
    named |= {"(0,0) low": bits + first}
    named |= {"check, upper": len(Traced.steps) - 2, "check, lower": len(Traced.steps) - 1}
    assert len(Traced.steps) == bits + 2 * SENT.sum() + 2
    lines: list[Sequence[object]] = [("symbol", "read", "q", "C[s]", "C[s+1]", "s", "lower", "range", "point")]
    lines.append(("start", "", "", "", "", "", *(f"{value:016x}" for value in Traced.states[0])))
    for name, at in named.items():
        quantile, low, high, symbol = Traced.steps[at]
        lines.append((at, name, quantile, low, high, symbol, *(f"{value:016x}" for value in Traced.states[at + 1])))
    return rows(lines, (6, 12, 8, 8, 8, 2, 16, 16, 16))


def logits(codec: Codec, stage: int) -> list[int]:
    """Return the first row of a stage's logits."""
    schedule, bundle = codec.bundle.schedule, codec.bundle
    known = (schedule.stage_of(*GRID.shape) < stage) & (SENT == 1)
    context = np.full((1, 32, 48), bundle.pad, dtype=np.int32)
    context[0, : GRID.shape[0], : GRID.shape[1]] = np.where(known, GRID, bundle.unknown)
    return list(codec.token_codec.prior.load(stage)(context)[0, 0, : bundle.codebook].tolist())


def digits(codec: Codec) -> str:
    row, table = logits(codec, 0), codec.bundle.table(CODER_TABLE).tolist()
    weights = [table[min(max(row) - q, 448)] for q in row]
    high, low = [sum(weights[i : i + 16]) for i in range(0, 256, 16)], weights[GRID[0, 0] // 16 * 16 :][:16]
    lines: list[Sequence[object]] = [("digit", "max(l)", "V[0]", "V[1]", "V[2]", "W[16]", "C[1]", "C[2]", "C[3]", "s")]
    for name, values, symbol in (("high", high, GRID[0, 0] // 16), ("low", low, GRID[0, 0] % 16)):
        found = reference_coder.cumulative(values)
        lines.append((name, max(row), *values[:3], sum(values), *found[1:4], symbol))
    return rows(lines, (6, 7, 7, 7, 7, 8, 8, 8, 8, 1))


def drawn(codec: Codec) -> str:
    row, table = logits(codec, 5), codec.bundle.table(CODER_TABLE).tolist()
    assert SENT[0, 1] == 0
    best = sorted(range(len(row)), key=lambda k: (-row[k], k))[:8]
    scaled = [(row[best[0]] - row[k]) * 4 // 3 for k in best]
    weights = [table[min(distance, 448)] for distance in scaled]
    number = int(random_numbers(HEADER.seed or 0, *GRID.shape)[0, 1])
    point = number * sum(weights) >> 32
    names = ("k", "l[k]", "floor(4 d / 3)", "v", "sum of v")
    columns = (best, [row[k] for k in best], scaled, weights, np.cumsum(weights).tolist())
    lines: list[Sequence[object]] = [(name, *values) for name, values in zip(names, columns, strict=True)]
    text = f"u = {number:08x}, V = {sum(weights)}, floor(u V / 2^32) = {point}: token {GRID[0, 1]}\n"
    return rows(lines, (15, *[8] * 8)) + text


def check(_: Codec) -> str:
    begin = GRID.reshape(-1)[:4].astype(">i4").tobytes().hex(" ", 4)
    crc = zlib.crc32(GRID.astype(">i4").tobytes())
    return f"CRC-32 of {begin} ... = {crc:08x}; symbols {crc >> 8 & 255} and {crc & 255}\n"


BLOCKS = (header, tokens, coder, digits, drawn, check)


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.__name__)
def test_a_block_is_that_of_the_file(codec: Codec, block: object) -> None:
    assert callable(block)
    assert f"\n\n{indent(block(codec), '    ')}\n" in PAGE + "\n"


def test_the_section_has_no_other_block() -> None:
    section = PAGE.split("\n## 7. ")[1]
    assert len(re.findall(r"\n\n    \S", section)) == len(BLOCKS)


ENDINGS = {
    1: "It is followed by three zeros in",
    2: "They are followed by two zeros in",
    3: "They are followed by a zero in",
    4: "They are",
}
"""What a payload's bytes in the last word but one are, by their number."""


def test_the_words_around_the_blocks(codec: Codec) -> None:
    """The numbers in the text, with the steps of the range coder that it speaks of."""
    section = " ".join(PAGE.split("\n## 7. ")[1].split())
    table, edges = codec.bundle.table(MASK_TABLE).tolist(), block_shape(*GRID.shape)
    bits, first = int(np.prod(edges)), int(SENT[::4, ::4].sum())
    assert [step[3] for step in Traced.steps[:5]] == [0, 0, 0, 0, 1]
    refill = refilled(bits)
    before, after = (Traced.states[at][2] & 0xFFFFFFFF for at in (refill, refill + 1))
    place = PAYLOAD.index(before.to_bytes(4, "big") + after.to_bytes(4, "big"))
    assert place % 4 == 0
    last = PAYLOAD[-(len(PAYLOAD) % 4 or 4) :]  # of the last word but one, which zeros complete
    assert Traced.states[-1][2] == int.from_bytes(last.ljust(8, b"\0"), "big")
    output = int(np.random.Philox(key=HEADER.seed).random_raw(2)[1])
    for text in (
        f"has {len(DATA)} bytes",
        f"{HEADER.width} x {HEADER.height} pixels, and the grid {GRID.shape[0]} rows and {GRID.shape[1]} columns",
        f"{edges[0]} x {edges[1]} = {bits} edge bits",
        f"The {SENT.sum()} sent tokens",
        f"holds {len(Traced.steps)} symbols",
        f"`mask.table`[0] = {table[0]}, so C = [0, {2**24 - 256 * table[0]}, {2**24}]",
        f"`mask.table`[1] = {table[1]}",
        f"After symbol {refill}, the range was below 2^32, and the next word was {after:08x}",
        f"Symbols {bits} to {bits + first - 1} are the high digits of the {first} tokens",
        f"ends with the byte{'s' * (len(last) > 1)} {last.hex(' ')}. {ENDINGS[len(last)]} the last word but one",
        f"{GRID[0, 0] // 16} * 16 + {GRID[0, 0] % 16} = {GRID[0, 0]}",
        f"which is {output:016x}",
        "first tokens are {}, {}, {} and {}".format(*GRID[0, :4]),
    ):
        assert text in section


def test_the_entry_of_a_tensor() -> None:
    """The example of a safetensors header in docs/BUNDLE.md is the default bundle's."""
    with open(default_path() / WEIGHTS, "rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    page = (ROOT / "docs" / "BUNDLE.md").read_text(encoding="utf-8")
    assert f'    "{CODER_TABLE}": {json.dumps(header[CODER_TABLE])}\n' in page


def test_every_refusal_has_a_reason_on_the_page() -> None:
    """The errors of the hostile files are those that the page lists; what these files give, test_fuzz.py shows."""
    lines = (ROOT / "fuzz" / "corpus" / "files.tsv").read_text().splitlines()[1:]
    outcomes = {line.split("\t")[1] for line in lines} - {"grid"}
    assert outcomes | {"ProviderError"} == set(re.findall(r"`(\w+Error)`", PAGE))
