"""The file's header: pinned bytes, round trips, and every kind of damage refused by name."""

from __future__ import annotations

import numpy as np
import pytest

from tests.support.files import resealed
from uigc.runtime.errors import (
    CorruptFileError,
    TooLargeError,
    UigcError,
    UnrecognizedFileError,
    UnsupportedVersionError,
)
from uigc.runtime.format import bitstream
from uigc.runtime.format.bitstream import Header
from uigc.runtime.format.mask_mode import MaskMode

PRIOR = bytes.fromhex("0badcafe")
HEADER = Header(768, 512, MaskMode.EDGE, PRIOR)
FILE = bitstream.pack(HEADER, b"payload")
SAMPLED = bitstream.pack(Header(768, 512, MaskMode.EDGE_MORE, PRIOR, seed=5), b"payload")


def test_the_bytes_are_pinned() -> None:
    assert FILE.hex() == "554947" + "01" + "01" + "0badcafe" + "23a5f61e" + "857f" + "837f" + "07" + b"payload".hex()
    assert SAMPLED[3:5].hex() + SAMPLED[13:].hex() == "0112" + "857f" + "837f" + "05" + "07" + b"payload".hex()


@pytest.mark.parametrize("size", [(1, 1), (128, 129), (16384, 1), (1, 16384), (16384, 16384)])
@pytest.mark.parametrize(
    ("mode", "seed"), [*((mode, None) for mode in MaskMode), (MaskMode.EDGE, 0), (MaskMode.EDGE_MORE, 255)]
)
def test_round_trip_and_overhead(size: tuple[int, int], mode: MaskMode, seed: int | None) -> None:
    header = Header(*size, mode, PRIOR, seed=seed)
    for payload in (b"", b"x", b"y" * 200, b"z" * bitstream.MAX_PAYLOAD):
        data = bitstream.pack(header, payload)
        assert bitstream.unpack(data) == (header, payload)
        assert len(data) - len(payload) <= 20 + (seed is not None)


def test_payloads_beyond_the_limit_are_refused() -> None:
    with pytest.raises(TooLargeError):
        bitstream.pack(HEADER, bytes(bitstream.MAX_PAYLOAD + 1))


@pytest.mark.parametrize("data", [b"", b"\x89PNG\r\n\x1a\n and so on", b"UIX", b"RIFF"])
def test_other_files_are_not_recognized(data: bytes) -> None:
    with pytest.raises(UnrecognizedFileError):
        bitstream.unpack(data)


@pytest.mark.parametrize("data", [FILE, SAMPLED])
def test_every_truncation_is_named(data: bytes) -> None:
    for length in range(1, len(data)):
        with pytest.raises(CorruptFileError, match="truncated"):
            bitstream.unpack(data[:length])


def test_trailing_bytes_are_named() -> None:
    with pytest.raises(CorruptFileError, match="3 bytes behind its end"):
        bitstream.unpack(FILE + b"abc")


@pytest.mark.parametrize("data", [FILE, SAMPLED])
def test_every_flipped_bit_is_refused(data: bytes) -> None:
    for position in range(len(data)):
        for bit in range(8):
            damaged = bytearray(data)
            damaged[position] ^= 1 << bit
            with pytest.raises((CorruptFileError, UnrecognizedFileError)):
                bitstream.unpack(bytes(damaged))


def test_a_newer_version_is_named() -> None:
    with pytest.raises(UnsupportedVersionError, match="version 2"):
        bitstream.unpack(resealed(FILE[:3] + b"\x02" + FILE[4:]))


@pytest.mark.parametrize("setting", [7, 16, 19, 33, 255])
def test_an_unknown_setting_is_named(setting: int) -> None:
    """Whatever follows the setting. 16 would draw lost tokens in a mode that loses none."""
    for rest in (FILE[5:], FILE[5:] + b"more"):
        with pytest.raises(UnsupportedVersionError, match=f"setting {setting},"):
            bitstream.unpack(resealed(FILE[:4] + bytes([setting]) + rest))


@pytest.mark.parametrize(("place", "name"), [(3, "format version"), (4, "setting")])
def test_a_beginning_is_judged_by_what_is_there(place: int, name: str) -> None:
    """A whole file with another version is damaged unless its checksum says otherwise; of a beginning nobody knows."""
    data = bytearray(FILE)
    data[place] ^= 64
    with pytest.raises(UnsupportedVersionError, match=name):
        bitstream.unpack_beginning(bytes(data[:-1]))
    with pytest.raises(CorruptFileError, match="checksum"):
        bitstream.unpack_beginning(bytes(data))
    with pytest.raises(UnsupportedVersionError, match=name):
        bitstream.unpack_beginning(resealed(bytes(data)))
    assert bitstream.unpack_beginning(FILE[:12]) is None  # the header is not there


@pytest.mark.parametrize("numbers", [b"\x80\x01\x00\x00", b"\xff\xff\xff\x00", b"\x00\x00\xff\xff\xff\xff"])
def test_malformed_numbers_are_refused(numbers: bytes) -> None:
    with pytest.raises(CorruptFileError, match="malformed"):
        bitstream.unpack(resealed(FILE[:13] + numbers + b"payload"))


@pytest.mark.parametrize("size", [(0, 5), (5, 0), (16385, 1), (6000, 6000)])
def test_sizes_are_bounded(size: tuple[int, int]) -> None:
    with pytest.raises(TooLargeError):
        bitstream.check_size(*size, 1 << 25)


def test_random_bytes_never_do_anything_else() -> None:
    rng = np.random.default_rng(0)
    for _ in range(3000):
        noise = rng.bytes(int(rng.integers(0, 40)))
        with pytest.raises(UigcError):
            bitstream.unpack(resealed(b"UIG\x01" + noise) if len(noise) > 9 else noise)
