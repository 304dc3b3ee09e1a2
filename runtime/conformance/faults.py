"""Files taken apart and put together again with a fault, under a right checksum where there is one."""

from __future__ import annotations

import random
import zlib
from dataclasses import dataclass, replace

from uigc.runtime.errors import UigcError
from uigc.runtime.format import bitstream
from uigc.runtime.format.bitstream import SAMPLED

FIXED = 13  # bytes before the first number of variable length; the last four of them are the checksum


def checksum(data: bytes) -> bytes:
    return zlib.crc32(data[: FIXED - 4] + data[FIXED:]).to_bytes(4, "big")


def with_checksum(data: bytes) -> bytes:
    """Return a file with the checksum that its other bytes need."""
    return data[: FIXED - 4] + checksum(data) + data[FIXED:]


@dataclass(frozen=True)
class Parts:
    """The fields of a file as they stand, however wrong."""

    version: int
    setting: int
    prior_id: bytes
    width: int
    height: int
    seed: int
    payload: bytes

    @classmethod
    def of(cls, data: bytes) -> Parts | None:
        """Take a file apart; None if it does not parse."""
        try:
            header, payload = bitstream.unpack(with_checksum(data))
        except UigcError:
            return None
        setting = header.mode | (0 if header.seed is None else SAMPLED)
        return cls(
            header.version, setting, header.prior_id, header.width - 1, header.height - 1, header.seed or 0, payload
        )

    def pack(self, length: int | None = None) -> bytes:
        """Put the file together with a right checksum; ``length``: what it states as the length of its payload."""
        numbers = self.width, self.height, len(self.payload) if length is None else length
        width, height, size = (bitstream._varint(number) for number in numbers)
        seed = bytes([self.seed]) if self.setting & SAMPLED else b""
        signature = bitstream.MAGIC + bytes([self.version, self.setting]) + self.prior_id
        return with_checksum(signature + bytes(4) + width + height + seed + size + self.payload)


def faulty_files(data: bytes) -> dict[str, bytes]:
    """Make files by name with one fault each of a valid one, under a right checksum where there is one."""
    parts = Parts.of(data)
    assert parts is not None
    noise = random.Random(0).randbytes(40)
    return {
        "empty": b"",
        "magic-cut": data[:2],
        "other-magic": b"PNG" + data[3:],
        "fixed-cut": data[:12],
        "header-cut": data[:14],
        "payload-cut": data[:-1],
        "trailing": data + b"\0",
        "checksum": data[:-1] + bytes([data[-1] ^ 1]),
        "version-0": replace(parts, version=0).pack(),
        "version-2": replace(parts, version=2).pack(),
        "setting-3": replace(parts, setting=3).pack(),
        "setting-16": replace(parts, setting=16).pack(),
        "setting-255": replace(parts, setting=255).pack(),
        "other-prior": replace(parts, prior_id=b"\0\0\0\0").pack(),
        "number-leading-zero": with_checksum(data[:FIXED] + b"\x80" + data[FIXED:]),
        "number-endless": with_checksum(data[:FIXED] + b"\xff" * 8),
        "side-16384": replace(parts, width=16383, height=16383).pack(),
        "length-short": parts.pack(len(parts.payload) - 1),
        "length-long": parts.pack(len(parts.payload) + 1),
        "length-largest": parts.pack(bitstream.MAX_PAYLOAD),
        "payload-empty": replace(parts, payload=b"").pack(),
        "payload-zeros": replace(parts, payload=bytes(50)).pack(),
        "payload-ones": replace(parts, payload=b"\xff" * 50).pack(),
        "payload-noise": replace(parts, payload=noise).pack(),
        "payload-noise-entire": replace(parts, setting=0, payload=noise).pack(),
        "payload-noise-drawn": replace(parts, setting=18, seed=255, payload=noise).pack(),
        "payload-long": replace(parts, payload=parts.payload + noise * 50).pack(),
        "payload-padded": replace(parts, payload=parts.payload + bytes(9)).pack(),
        "wider": replace(parts, width=parts.width + 16).pack(),
        "taller": replace(parts, height=parts.height + 16).pack(),
        "drawn-differently": replace(parts, setting=17, seed=3).pack(),
    }
