"""The entropy coder: round trips, pinned bytes, and an independent decoder that reads the same symbols."""

from __future__ import annotations

import numpy as np
import pytest

from tests.support.reference_coder import Reader, cumulative
from uigc.runtime.errors import InexactError
from uigc.runtime.format import entropy_coder
from uigc.runtime.format.entropy_coder import TokenEntropyModel
from uigc.runtime.format.range_coder import SymbolReader, SymbolWriter

RNG = np.random.default_rng(7)


def random_logits(count: int, codebook: int, spread: float) -> np.ndarray:
    return np.clip(np.rint(RNG.normal(0, spread, (count, codebook))), -2047, 2047).astype(np.int32)


@pytest.mark.parametrize("codebook", [4, 16, 512, 1024])
@pytest.mark.parametrize("spread", [0, 40, 900])
def test_tokens_come_back(codebook: int, spread: float) -> None:
    model = TokenEntropyModel(entropy_coder.weight_table(), codebook)
    stages = [(random_logits(n, codebook, spread), RNG.integers(0, codebook, n, dtype=np.int32)) for n in (1, 0, 50, 7)]
    writer = SymbolWriter()
    for logits, tokens in stages:
        model.encode(writer, logits, tokens)
    reader = SymbolReader(writer.finish())
    for logits, tokens in stages:
        assert np.array_equal(model.decode(reader, logits), tokens)


def test_an_independent_decoder_reads_the_same_symbols() -> None:
    table, codebook, low = entropy_coder.weight_table(), 512, 16
    model = TokenEntropyModel(table, codebook)
    logits, tokens = random_logits(300, codebook, 120), RNG.integers(0, codebook, 300, dtype=np.int32)
    writer = SymbolWriter()
    model.encode(writer, logits, tokens)
    reader = Reader(writer.finish())
    rows = [[int(table[min(max(row) - q, 448)]) for q in row] for row in logits.tolist()]
    high = [reader.read(cumulative([sum(row[i : i + low]) for i in range(0, codebook, low)])) for row in rows]
    back = [h * low + reader.read(cumulative(row[h * low : (h + 1) * low])) for h, row in zip(high, rows, strict=True)]
    assert back == tokens.tolist()


def test_the_tables_are_those_of_the_format() -> None:
    weights = RNG.integers(1, 1 << 19, (200, 32))
    weights[0] = 1
    weights[1, :-1] = 1
    for row, frequency in zip(weights.tolist(), entropy_coder.frequencies(weights.astype(np.int64)), strict=True):
        assert (np.diff(cumulative(row)) - 1).tolist() == frequency.tolist()
        assert float(frequency.astype(np.float64).sum()) == entropy_coder.TOTAL - 32


def test_the_weight_table_is_pinned() -> None:
    table = entropy_coder.weight_table()
    assert table[[0, 1, 2, 31, 32, 100, 447, 448]].tolist() == [524287, 508156, 492522, 198997, 192874, 23036, 1, 1]
    assert int(table.astype(np.int64).sum()) == 17040685


def test_a_short_stream_is_pinned() -> None:
    """Changing these bytes changes the format."""
    writer = SymbolWriter()
    model = TokenEntropyModel(entropy_coder.weight_table(), 16)
    logits = (np.arange(64, dtype=np.int32).reshape(4, 16) * 37) % 101
    model.encode(writer, logits, np.array([3, 0, 15, 8], dtype=np.int32))
    writer.write_check(0xBEEF)
    assert writer.finish().hex() == "0d7baaa61d"


def test_endings_are_short_and_decode() -> None:
    rows = np.tile(entropy_coder.frequencies(np.array([[3, 1, 1, 3]], dtype=np.int64)), (40, 1))
    excess = []
    for length in range(1, 41):
        for _ in range(20):
            symbols = RNG.integers(0, 4, length, dtype=np.int32)
            writer = SymbolWriter()
            writer.write(symbols, rows[:length])
            data = writer.finish()
            assert np.array_equal(SymbolReader(data).read(rows[:length]), symbols)
            ideal = -np.log2(np.array([3, 1, 1, 3])[symbols] / 8).sum()
            excess.append(8 * len(data) - ideal)
    assert np.mean(excess) < 6
    assert max(excess) < 16


def test_cost_is_what_the_stream_takes() -> None:
    model = TokenEntropyModel(entropy_coder.weight_table(), 64)
    logits, tokens = random_logits(2000, 64, 60), RNG.integers(0, 64, 2000, dtype=np.int32)
    writer = SymbolWriter()
    model.encode(writer, logits, tokens)
    assert abs(model.cost(logits, tokens) - 8 * len(writer.finish())) < 16


@pytest.mark.parametrize("value", [0, 1, 0xFFFF, 0x1234])
def test_the_check_passes_and_fails(value: int) -> None:
    writer = SymbolWriter()
    writer.write_check(value)
    data = writer.finish()
    SymbolReader(data).expect_check(value)
    with pytest.raises(InexactError, match="did not compute the prior exactly"):
        SymbolReader(data).expect_check(value ^ 1)


def test_invalid_data_is_an_error_of_ours() -> None:
    rows = np.tile(entropy_coder.frequencies(np.array([[1, 1 << 19]], dtype=np.int64)), (400, 1))
    with pytest.raises(InexactError):
        SymbolReader(b"\xff" * 60).read(rows)
