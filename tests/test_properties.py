"""What holds of every input, by Hypothesis: it makes the inputs, and shrinks those that break a property."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from tests.support.files import resealed
from uigc.fuzz import small_bundle
from uigc.fuzz.changes import places
from uigc.fuzz.targets import TARGETS
from uigc.runtime.bundle.safetensors import TensorFile
from uigc.runtime.errors import BundleError, UigcError
from uigc.runtime.format import bitstream, mask_coding
from uigc.runtime.format.bitstream import MAX_SIDE, Header
from uigc.runtime.format.entropy_coder import TokenEntropyModel, weight_table
from uigc.runtime.format.mask import Mask
from uigc.runtime.format.mask_mode import MaskMode
from uigc.runtime.format.range_coder import SymbolReader, SymbolWriter
from uigc.runtime.outcomes import capture

# The same inputs in every run: what new ones would find belongs to fuzz/, which runs longer.
PROPERTY = settings(derandomize=True, deadline=None, database=None, max_examples=60)
SIDES = st.integers(1, MAX_SIDE)
LOSSY = st.sampled_from([MaskMode.EDGE, MaskMode.EDGE_MORE])
MODES_AND_SEEDS = st.tuples(st.sampled_from(MaskMode), st.none()) | st.tuples(LOSSY, st.integers(0, 255))
HEADERS = st.builds(
    lambda width, height, choice, prior: Header(width, height, choice[0], prior, seed=choice[1]),
    SIDES, SIDES, MODES_AND_SEEDS, st.binary(min_size=4, max_size=4),
)  # fmt: skip
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=[])),
    lambda inside: st.lists(inside, max_size=3) | st.dictionaries(st.text(), inside, max_size=3),
    max_leaves=6,
)


@PROPERTY
@given(HEADERS, st.binary(max_size=300), st.data())
def test_a_file_comes_back_and_any_other_byte_is_noticed(header: Header, payload: bytes, data: st.DataObject) -> None:
    file = bitstream.pack(header, payload)
    assert bitstream.unpack(file) == (header, payload)
    place, other = data.draw(st.integers(0, len(file) - 1)), data.draw(st.integers(1, 255))
    damaged = file[:place] + bytes([file[place] ^ other]) + file[place + 1 :]
    assert isinstance(capture(lambda: bitstream.unpack(damaged)), UigcError)


@PROPERTY
@given(st.binary(max_size=60))
def test_whatever_is_accepted_has_one_form(rest: bytes) -> None:
    file = resealed(b"UIG\1" + rest.ljust(10, b"\0"))
    outcome = capture(lambda: bitstream.unpack(file))
    assert type(outcome) is not UigcError
    assert isinstance(outcome, UigcError) or bitstream.pack(*outcome) == file


@PROPERTY
@given(arrays.arrays(bool, arrays.array_shapes(min_dims=2, max_dims=2, max_side=12)), st.integers(0, 2**32 - 1))
def test_edge_bits_come_back_under_any_table(bits: np.ndarray, seed: int) -> None:
    table = np.random.default_rng(seed).integers(1, 65536, 1 << mask_coding.CONTEXT_BITS, dtype=np.int32)
    table[seed % 1024 :] = 1 if seed % 2 else 65535
    writer = SymbolWriter()
    mask_coding.write_bits(writer, bits, table)
    assert np.array_equal(
        mask_coding.read_bits(SymbolReader(writer.finish()), bits.shape, mask_coding.MaskModels(table)), bits
    )


@PROPERTY
@given(st.integers(2, 12), st.integers(0, 20), st.data())
def test_tokens_come_back_under_any_logits(power: int, count: int, data: st.DataObject) -> None:
    codebook = 1 << power
    logits = data.draw(arrays.arrays(np.int32, (count, codebook), elements=st.integers(-2047, 2047)))
    tokens = data.draw(arrays.arrays(np.int32, count, elements=st.integers(0, codebook - 1)))
    model, writer = TokenEntropyModel(weight_table(), codebook), SymbolWriter()
    model.encode(writer, logits, tokens)
    assert np.array_equal(model.decode(SymbolReader(writer.finish()), logits), tokens)


@PROPERTY
@given(LOSSY, st.none() | st.floats(0, 1), st.sampled_from(["loss", "gradient"]), st.none() | st.integers(0, 255))
def test_a_label_is_read_as_the_mask(mode: MaskMode, share: float | None, by: str, seed: int | None) -> None:
    mask = Mask(mode, None if share is None else abs(share), by, seed)
    assert Mask.parse(mask.label) == mask


TENSORS = arrays.arrays(
    st.sampled_from(["<f4", "<f2", "<f8", "<i8", "<i4", "<i2", "|i1", "|u1"]),
    arrays.array_shapes(min_dims=0, max_dims=4, max_side=4),
    elements={"allow_nan": False},
)
NAMES = {"<f4": "F32", "<f2": "F16", "<f8": "F64", "<i8": "I64", "<i4": "I32", "<i2": "I16", "|i1": "I8", "|u1": "U8"}


@PROPERTY
@given(st.dictionaries(st.text().filter(lambda name: name != "__metadata__"), TENSORS, max_size=4))
def test_tensors_are_read_as_they_were_written(tensors: dict[str, np.ndarray]) -> None:
    header, content = {"__metadata__": {"by": "a test"}}, b""
    for name, array in tensors.items():
        offsets = [len(content), len(content) + array.nbytes]
        header[name] = {"dtype": NAMES[array.dtype.str], "shape": array.shape, "data_offsets": offsets}
        content += array.tobytes()
    path = small_bundle.folder() / "tensors"
    path.write_bytes(small_bundle.packed(header, content))
    found = TensorFile(path)
    assert list(found) == sorted(tensors)
    for name, array in tensors.items():
        assert found.read(name).dtype == array.dtype
        assert np.array_equal(found.read(name), array)


def replaced(value: Any, data: st.DataObject) -> Any:
    """JSON with another value at one place."""
    *way, last = data.draw(st.sampled_from(list(places(value))))
    around = value
    for key in way:
        around = around[key]
    around[last] = data.draw(JSON)
    return value


@PROPERTY
@given(st.data())
def test_a_manifest_with_any_value_anywhere(data: st.DataObject) -> None:
    manifest = json.loads(TARGETS["manifest"].seeds()["valid"])
    outcome = capture(lambda: TARGETS["manifest"].check(json.dumps(replaced(manifest, data)).encode()))
    assert outcome == "opened" or isinstance(outcome, BundleError), repr(outcome)


@PROPERTY
@given(st.data())
def test_weights_with_any_value_in_their_header(data: st.DataObject) -> None:
    file = small_bundle.weights()
    length = int.from_bytes(file[:8], "little")
    header = replaced(json.loads(file[8 : 8 + length]), data)
    outcome = capture(lambda: TARGETS["weights"].check(small_bundle.packed(header, file[8 + length :])))
    assert outcome == "opened" or isinstance(outcome, BundleError), repr(outcome)
