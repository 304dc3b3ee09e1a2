"""The .uigc file: a header of at most 21 bytes and one payload. ``docs/FORMAT.md`` specifies it byte by byte."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass

from uigc.runtime.errors import CorruptFileError, TooLargeError, UnrecognizedFileError, UnsupportedVersionError
from uigc.runtime.format.mask_mode import MaskMode

MAGIC = b"UIG"
VERSION = 1
PRIOR_ID_BYTES = 4
PATCH = 16  # side of a token in pixels
MAX_SIDE = 1 << 14  # pixels
MAX_PAYLOAD = (1 << 21) - 1  # bytes
MAX_FILE = 21 + MAX_PAYLOAD  # bytes, header included
SAMPLED = 16  # added to the mask mode if lost tokens are drawn at random
SETTINGS = {*MaskMode, *(mode | SAMPLED for mode in MaskMode if mode is not MaskMode.ENTIRE)}
_FIXED = len(MAGIC) + 2 + PRIOR_ID_BYTES + 4  # bytes before the first number of variable length


@dataclass(frozen=True)
class Header:
    """Everything in a file except its payload.

    ``prior_id`` is 4 bytes. ``seed`` (0..255) lets the decoder draw the lost tokens; None for the most likely ones.
    """

    width: int
    height: int
    mode: MaskMode
    prior_id: bytes
    version: int = VERSION
    seed: int | None = None


def _varint(value: int) -> bytes:
    """Write a number as big-endian groups of 7 bits; all but the last have the high bit set."""
    groups = [value & 127]
    while value := value >> 7:
        groups.append(value & 127 | 128)
    return bytes(reversed(groups))


class _Cursor:
    """Reads bytes and numbers one after another; raises an EOFError where the data ends too early."""

    def __init__(self, data: bytes, position: int) -> None:
        self.data, self.position = data, position

    def byte(self) -> int:
        if self.position >= len(self.data):
            raise EOFError
        self.position += 1
        return self.data[self.position - 1]

    def varint(self, longest: int) -> int:
        """Read a number of at most ``longest`` bytes; leading zero groups are refused."""
        value = 0
        for index in range(longest):
            byte = self.byte()
            if index == 0 and byte == 128:
                break
            value = value << 7 | byte & 127
            if byte < 128:
                return value
        raise CorruptFileError("The file's header holds a malformed number; fetch the file again.")


def _truncated(length: int, wanted: int | None = None) -> CorruptFileError:
    expected = f"{wanted} bytes were expected" if wanted else "its header goes on"
    return CorruptFileError(f"The file is truncated: it ends after {length} bytes and {expected}; fetch it again.")


def check_size(width: int, height: int, max_pixels: int, reason: str = "") -> None:
    """Refuse image sizes beyond the limits of the format or ``max_pixels``; ``reason`` explains the latter."""
    if width < 1 or height < 1:
        raise TooLargeError(f"The image is {width}x{height} pixels and at least 1x1 is needed; give a larger one.")
    if max(width, height) > MAX_SIDE:
        raise TooLargeError(
            f"The image is {width}x{height} pixels, and the format holds at most {MAX_SIDE} a side; scale it down."
        )
    if width * height > max_pixels:
        raise TooLargeError(
            f"The image is {width}x{height} pixels, and at most {max_pixels} in all are possible{reason}; scale it "
            "down or raise the limit (--max-pixels)."
        )


def pack(header: Header, payload: bytes) -> bytes:
    """Return the bytes of a file."""
    if len(payload) > MAX_PAYLOAD:
        raise TooLargeError(
            f"The payload has {len(payload)} bytes, and at most {MAX_PAYLOAD} fit; scale the image down."
        )
    seed = b"" if header.seed is None else bytes([header.seed])
    signature = MAGIC + bytes([VERSION, header.mode | (SAMPLED if seed else 0)]) + header.prior_id
    tail = _varint(header.width - 1) + _varint(header.height - 1) + seed + _varint(len(payload)) + payload
    return signature + zlib.crc32(signature + tail).to_bytes(4, "big") + tail


def unpack(data: bytes) -> tuple[Header, bytes]:
    """Return header and payload of a file; foreign, newer, truncated and damaged files raise an error of their own."""
    if len(data) == 0:
        raise UnrecognizedFileError("The file is empty, and a .uigc file was expected; check how it was written.")
    try:
        fields = _fields(data, _checksum_holds)
    except EOFError:
        raise _truncated(len(data)) from None
    if len(data) < fields.end:
        raise _truncated(len(data), fields.end)
    if len(data) > fields.end:
        raise CorruptFileError(
            f"The file has {len(data) - fields.end} bytes behind its end at {fields.end}; fetch it again."
        )
    if not _checksum_holds(data):
        raise CorruptFileError("The file is damaged: its checksum does not match its contents; fetch it again.")
    return fields.header(data), data[fields.begin :]


@dataclass(frozen=True)
class Beginning:
    """The first bytes of a file, from its whole header on; nothing of it is verified.

    ``payload``: the bytes of the payload that are there; ``length``: how many it has in all.
    """

    header: Header
    payload: bytes
    length: int


def unpack_beginning(data: bytes) -> Beginning | None:
    """Return what the first bytes of a file hold; None as long as its header is not there.

    Raises the errors of :func:`unpack`, but for what only the missing bytes could show.
    """
    try:
        fields = _fields(data, _may_be_newer)
    except EOFError:
        return None
    if data[3] != VERSION or data[4] not in SETTINGS:
        unpack(data)  # which says how the file is damaged
    return Beginning(fields.header(data), data[fields.begin : fields.end], fields.end - fields.begin)


def _may_be_newer(data: bytes) -> bool:
    """Whether a file of another version or setting, of which these are the first bytes, is a newer one.

    Where they end as the header says, as of a whole file, the checksum tells; of fewer bytes nobody knows.
    """
    try:
        return len(data) != _fields(data, lambda _: False).end or _checksum_holds(data)
    except (CorruptFileError, EOFError):
        return True


@dataclass(frozen=True)
class _Fields:
    """What a header says; the payload lies from ``begin`` up to, not including, ``end``."""

    width: int
    height: int
    seed: int | None
    begin: int
    end: int

    def header(self, data: bytes) -> Header:
        """Return the header, of a file whose version and mask mode are known."""
        prior_id = data[len(MAGIC) + 2 : len(MAGIC) + 2 + PRIOR_ID_BYTES]
        return Header(self.width, self.height, MaskMode(data[4] & ~SAMPLED), prior_id, data[3], self.seed)


def _fields(data: bytes, is_whole: Callable[[bytes], bool]) -> _Fields:
    """Read a header; an unknown version or mask mode is one only if the file ``is_whole``, or else it is damage.

    Raises an EOFError if the data ends before its header does.
    """
    if not data.startswith(MAGIC[: len(data)]):
        raise UnrecognizedFileError(
            "The file does not begin with 'UIG', so it is not a .uigc file; give one that uigc wrote."
        )
    if len(data) < _FIXED:
        raise EOFError
    version, setting = data[3:5]
    if version != VERSION and is_whole(data):
        raise UnsupportedVersionError(
            f"The file has format version {version} and this decoder reads version {VERSION}; update uigc."
        )
    if setting not in SETTINGS and is_whole(data):
        raise UnsupportedVersionError(
            f"The file uses setting {setting}, which this decoder does not know; update uigc."
        )
    cursor = _Cursor(data, _FIXED)
    width, height = cursor.varint(2) + 1, cursor.varint(2) + 1
    seed = cursor.byte() if setting & SAMPLED else None
    length = cursor.varint(3)
    return _Fields(width, height, seed, cursor.position, cursor.position + length)


def read_header(data: bytes | bytearray | memoryview) -> Header:
    """Return the header of a file, after checking the whole file as :func:`unpack` does.

    Needs neither numpy nor a bundle.
    """
    return unpack(bytes(memoryview(data)[: MAX_FILE + 1]))[0]


def _checksum_holds(data: bytes) -> bool:
    signature = data[: _FIXED - 4]
    return zlib.crc32(signature + data[_FIXED:]) == int.from_bytes(data[_FIXED - 4 : _FIXED], "big")
