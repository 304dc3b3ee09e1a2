"""Files of the format, altered."""

from __future__ import annotations

import zlib


def resealed(data: bytes) -> bytes:

    return data[:9] + zlib.crc32(data[:9] + data[13:]).to_bytes(4, "big") + data[13:]
