"""The shared library in C, called as any language would call it."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from uigc.bench.c_library import Header, Options, load


def fields(header: Header) -> list[int]:
    return [getattr(header, name) for name, _ in header._fields_]


@dataclass(frozen=True)
class Library:
    """``libuigc.so``. A result other than 0 is returned with its sentence."""

    calls: ctypes.CDLL

    @classmethod
    def load(cls, path: Path) -> Library:
        return cls(load(path))

    def error(self, result: int) -> tuple[int, str]:
        message = self.calls.uigc_last_error().decode()
        assert (result == 0) == (message == ""), (result, message)
        return result, message

    def read_header(self, data: bytes) -> Header | tuple[int, str]:
        header = Header(*[-7] * 6)
        result = self.calls.uigc_read_header(data, len(data), ctypes.byref(header))
        if result:
            assert fields(header) == [-7] * 6
            return self.error(result)
        return header

    def open(self, bundle: Path, **options: Any) -> ctypes.c_void_p | tuple[int, str]:
        codec = ctypes.c_void_p(1)
        given = Options(ctypes.sizeof(Options), **options)
        result = self.calls.uigc_open(str(bundle).encode(), ctypes.byref(given), ctypes.byref(codec))
        assert (result == 0) == (codec.value is not None)
        return self.error(result) if result else codec

    def decode_tokens(self, codec: Any, data: bytes) -> np.ndarray | tuple[int, str]:
        header = self.read_header(data)
        shape = (header.rows, header.columns) if isinstance(header, Header) else (1, 1)
        grid = np.full(shape, -1, dtype=np.int32)
        result = self.calls.uigc_decode_tokens(codec, data, len(data), grid.ctypes.data, grid.size)
        assert result == 0 or (grid == -1).all()
        return self.error(result) if result else grid

    def decompress(self, codec: Any, data: bytes, spare: int = 0) -> np.ndarray | tuple[int, str]:
        """Decode to an image of rows that are ``spare`` bytes longer; those stay as they were."""
        header = self.read_header(data)
        height, width = (header.height, header.width) if isinstance(header, Header) else (1, 1)
        place = np.full((height, 3 * width + spare), 77, dtype=np.uint8)
        result = self.calls.uigc_decompress(codec, data, len(data), place.ctypes.data, place.shape[1], height)
        if result:
            assert (place == 77).all()
            return self.error(result)
        assert (place[:, 3 * width :] == 77).all()
        return np.ascontiguousarray(place[:, : 3 * width]).reshape(height, width, 3)
