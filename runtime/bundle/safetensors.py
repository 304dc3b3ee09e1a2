"""A reader of safetensors files, without their library, for the few small tensors that the runtime needs itself.

A file is an 8-byte little-endian header length, a JSON header, and flat bytes at the offsets that the header names
(https://github.com/huggingface/safetensors, "Format"). ONNX graphs read the rest straight from the same bytes.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from uigc.runtime.bundle import strict_json
from uigc.runtime.errors import BundleError

_DTYPES = {
    "F32": "<f4",
    "F16": "<f2",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "<i1",
    "U8": "<u1",
    "F64": "<f8",
    "BOOL": "?",
}
_HEADER_LIMIT = 1 << 24  # bytes
_MAX_DIMENSIONS = 8


class TensorFile:
    """The tensors of one file, read on demand; iterating gives their names in order."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._size = size = path.stat().st_size
        with open(path, "rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 2 <= length <= min(_HEADER_LIMIT, size - 8):
                raise BundleError(
                    f"{path.name} is not a safetensors file: its header has {length} bytes; export the bundle again."
                )
            try:
                header = strict_json.loads(file.read(length))
            except ValueError:
                raise BundleError(f"{path.name} has an unreadable header; export the bundle again.") from None
        self._start = 8 + length
        if not isinstance(header, dict):
            raise BundleError(f"{path.name} has a header that lists no tensors; export the bundle again.")
        self._entries: dict[str, Any] = {name: entry for name, entry in header.items() if name != "__metadata__"}
        self._expect_no_gaps()

    def __iter__(self) -> Any:
        return iter(sorted(self._entries))

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    def offset(self, name: str) -> int:
        """Return where the bytes of a tensor begin in the file."""
        return self._start + self._entry(name)[2]

    def nbytes(self, name: str) -> int:
        """Return the size of a tensor in bytes."""
        _, _, begin, end = self._entry(name)
        return end - begin

    def read(self, name: str) -> NDArray[Any]:
        """Read a tensor; raises a :class:`BundleError` if there is none, or if its entry makes no sense."""
        dtype, shape, begin, end = self._entry(name)
        with open(self.path, "rb") as file:
            file.seek(self._start + begin)
            data = file.read(end - begin)
        return np.frombuffer(data, dtype=dtype).reshape(shape)

    def _expect_no_gaps(self) -> None:
        """Refuse tensors that overlap or do not fit the file, and bytes that belong to none."""
        end = 0
        for begin, after in sorted(self._entry(name)[2:] for name in self):
            if begin != end:
                raise BundleError(f"{self.path.name} has tensors that overlap, or gaps; export the bundle again.")
            end = after
        if end != self._size - self._start:
            raise BundleError(f"{self.path.name} has bytes behind its tensors; export the bundle again.")

    def _entry(self, name: str) -> tuple[np.dtype[Any], list[int], int, int]:
        """Return type, shape, begin and end of a tensor, which fit each other and the file."""
        if name not in self._entries:
            raise BundleError(f"{self.path.name} has no tensor {name!r}; export the bundle again.")
        entry = self._entries[name]
        dtype, shape, offsets = (
            (entry.get(key) for key in ("dtype", "shape", "data_offsets")) if isinstance(entry, dict) else (None,) * 3
        )
        if isinstance(dtype, str) and dtype in _DTYPES and _are_sizes(shape, 1) and _are_sizes(offsets, 0, 2):
            found, (begin, end) = np.dtype(_DTYPES[dtype]), offsets
            if begin <= end <= self._size - self._start and end - begin == found.itemsize * math.prod(shape):
                return found, shape, begin, end
        raise BundleError(f"{self.path.name} has a malformed entry of the tensor {name!r}; export the bundle again.")


def _are_sizes(value: Any, least: int, count: int | None = None) -> TypeGuard[list[int]]:
    """Return True for a list of ``count`` integers (None: any few) from ``least`` on."""
    return (
        isinstance(value, list)
        and len(value) <= _MAX_DIMENSIONS
        and count in (None, len(value))
        and all(isinstance(each, int) and not isinstance(each, bool) and each >= least for each in value)
    )
