"""Which symbols of a payload are certain when only its first bytes are there."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.reference_coder import Reader, cumulative
from uigc.runtime.errors import InexactError
from uigc.runtime.format.entropy_coder import frequencies
from uigc.runtime.format.prefix_reader import PrefixReader
from uigc.runtime.format.range_coder import SymbolWriter, binary_model, binary_rows


def message(seed: int, count: int, size: int) -> tuple[np.ndarray, np.ndarray, bytes]:
    """Weights (count, size), symbols (count,) that are mostly those that they make likely, and their payload."""
    rng = np.random.default_rng(seed)
    weights = (1 + 2.0 ** rng.uniform(0, 18, (count, size))).astype(np.int64)
    likely, any_of_them = weights.argmax(1), rng.integers(0, size, count)
    symbols = np.where(rng.random(count) < 0.7, likely, any_of_them).astype(np.int32)
    writer = SymbolWriter()
    writer.write(symbols, frequencies(weights))
    return weights, symbols, writer.finish()


def reference(weights: np.ndarray, payload: bytes) -> list[int]:
    """What the decoder in plain integers reads, up to a quotient that no symbol has."""
    reader, found = Reader(payload), []
    for row in weights:
        if (reader.point - reader.lower & (1 << 64) - 1) // (reader.range >> 24) >= 1 << 24:
            break
        found.append(reader.read(cumulative(row.tolist())))
    return found


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 90), st.integers(2, 12))
def test_the_certain_symbols_are_those_of_every_way_to_go_on(seed: int, count: int, size: int) -> None:
    """For each cut: none is wrong, none that is certain is missing, and there are never fewer than of fewer bytes."""
    weights, symbols, payload = message(seed, count, size)
    rows, rng, before = frequencies(weights), np.random.default_rng(seed), 0
    for there in range(len(payload) + 1):
        reader = PrefixReader(payload[:there], len(payload))
        found, missing = reader.read(rows), len(payload) - there
        assert np.array_equal(found, symbols[: len(found)])
        assert before <= len(found)
        assert reader.cut == (len(found) < count)
        before = len(found)
        ways = [bytes(missing), b"\xff" * missing, *(rng.bytes(missing) for _ in range(3))]
        read = [reference(weights, payload[:there] + way) for way in ways]
        for other in read:  # whatever follows, it is read so
            assert other[: len(found)] == found.tolist()
        if len(found) < count:  # and the next one is not
            assert len({tuple(other[: len(found) + 1]) for other in read}) > 1
    assert before == count


@pytest.mark.parametrize("step", [1, 3, 8, 100])
def test_it_goes_on_where_a_reader_of_fewer_bytes_was(step: int) -> None:
    weights, symbols, payload = message(5, 300, 9)
    rows, done, place = frequencies(weights), 0, None
    for there in range(0, len(payload) + step, step):
        direct = PrefixReader(payload[:there], len(payload)).read(rows)
        reader = PrefixReader(payload[:there], len(payload), place)
        found = []
        while done < len(rows) and not reader.cut:  # blocks of ten symbols are complete or read again
            block = reader.read(rows[done : done + 10])
            if not reader.cut:
                done, place = done + 10, reader.place()
            else:
                found = block.tolist()
        assert np.array_equal(direct, [*symbols[:done], *found])
    assert done == len(rows)


def test_bits_one_by_one() -> None:
    rng = np.random.default_rng(2)
    chances = rng.integers(1, 65536, 400)
    bits = (rng.random(400) * 65536 < chances).astype(np.int32)
    rows, writer = binary_rows(chances), SymbolWriter()
    writer.write(bits, rows)
    payload = writer.finish()
    models = [binary_model(row) for row in rows]
    for there in range(len(payload) + 1):
        at_once = PrefixReader(payload[:there], len(payload)).read(rows)
        reader = PrefixReader(payload[:there], len(payload))
        with reader.one_by_one() as read:
            found = [read(model) for model in models]
        assert reader.cut == (there < len(payload) and len(at_once) < 400)
        assert found == [*at_once.tolist(), *[0] * (400 - len(at_once))]
        if not reader.cut:
            assert found == bits.tolist()


def test_nothing_is_read_behind_a_cut() -> None:
    weights, _, payload = message(1, 50, 4)
    reader = PrefixReader(payload[:3], len(payload))
    assert 0 < len(reader.read(frequencies(weights))) < 50
    assert reader.read(frequencies(weights)).tolist() == []


def test_a_whole_payload_that_does_not_fit_is_refused_and_a_part_of_it_is_not() -> None:
    rows = frequencies(np.ones((40, 3), dtype=np.int64))
    payload = b"\xff" * 20
    with pytest.raises(InexactError):
        PrefixReader(payload, len(payload)).read(rows)
    assert len(PrefixReader(payload[:-1], len(payload)).read(rows)) < 40
