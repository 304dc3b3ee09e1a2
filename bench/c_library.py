"""The decoder for C (``cpp/uigc.h``), called from Python to compare it with the package."""

from __future__ import annotations

import ctypes
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from uigc.runtime.arrays import Pixels, Tokens
from uigc.runtime.errors import UigcError


class Header(ctypes.Structure):
    """``uigc_header``."""

    _fields_ = tuple((name, ctypes.c_int32) for name in ("width", "height", "columns", "rows", "mode", "seed"))


class Options(ctypes.Structure):
    """``uigc_options``."""

    _fields_ = (
        ("size", ctypes.c_size_t), ("threads", ctypes.c_int32), ("max_pixels", ctypes.c_int64),
        ("precision", ctypes.c_char_p), ("pixel_precision", ctypes.c_char_p),
    )  # fmt: skip


def load(path: Path) -> ctypes.CDLL:
    """Load the library, and tell the types of its functions."""
    calls = ctypes.CDLL(str(path))
    decoding: Any = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_void_p, ctypes.c_size_t]
    calls.uigc_read_header.argtypes = [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_void_p]
    calls.uigc_open.argtypes = [ctypes.c_char_p, ctypes.c_void_p, ctypes.POINTER(ctypes.c_void_p)]
    calls.uigc_decompress.argtypes = [*decoding, ctypes.c_int32]
    calls.uigc_decode_tokens.argtypes = decoding
    calls.uigc_close.argtypes, calls.uigc_close.restype = [ctypes.c_void_p], None
    calls.uigc_last_error.restype = calls.uigc_version.restype = ctypes.c_char_p
    return calls


class CCodec:
    """A codec of the library. Its errors are raised as a :class:`UigcError` with the library's sentence."""

    def __init__(self, calls: ctypes.CDLL, bundle: Path, threads: int, pixel_precision: str | None = None) -> None:
        self._calls, self._codec = calls, ctypes.c_void_p()
        painter = pixel_precision.encode() if pixel_precision else None
        options = Options(ctypes.sizeof(Options), threads, 0, None, painter)
        self._expect(calls.uigc_open(str(bundle).encode(), ctypes.byref(options), ctypes.byref(self._codec)))

    def __enter__(self) -> CCodec:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._calls.uigc_close(self._codec)

    def decode_tokens(self, data: bytes) -> Tokens:
        """Return the grid int32 (h, w) of a file."""
        header = self._header(data)
        grid = np.empty((header.rows, header.columns), dtype=np.int32)
        self._expect(self._calls.uigc_decode_tokens(self._codec, data, len(data), grid.ctypes.data, grid.size))
        return grid

    def decompress(self, data: bytes) -> Pixels:
        """Return the image uint8 (H, W, 3) of a file."""
        header = self._header(data)
        image = np.empty((header.height, header.width, 3), dtype=np.uint8)
        place = image.ctypes.data, 3 * header.width, header.height
        self._expect(self._calls.uigc_decompress(self._codec, data, len(data), *place))
        return image

    def _header(self, data: bytes) -> Header:
        header = Header()
        self._expect(self._calls.uigc_read_header(data, len(data), ctypes.byref(header)))
        return header

    def _expect(self, result: int) -> None:
        if result:
            raise UigcError(self._calls.uigc_last_error().decode())
