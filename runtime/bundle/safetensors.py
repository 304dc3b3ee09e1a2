"""A reader of safetensors files, without their library, for the few small tensors that the runtime needs itself.

A file is an 8-byte little-endian header length, a JSON header, and flat bytes at the offsets that the header names
(https://github.com/huggingface/safetensors, "Format"). ONNX graphs read the rest straight from the same bytes.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

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
_HEADER_LIMIT = 1 << 24


class TensorFile:
    """The tensors of one file, read on demand; iterating gives their names in order."""

    def __init__(self, path: Path) -> None:
        self.path = path
        size = path.stat().st_size
        with open(path, "rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 2 <= length <= min(_HEADER_LIMIT, size - 8):
                raise BundleError(
                    f"{path.name} is not a safetensors file: its header has {length} bytes; export the bundle again."
                )
            try:
                header = json.loads(file.read(length))
            except ValueError:
                raise BundleError(f"{path.name} has an unreadable header; export the bundle again.") from None
        self._start = 8 + length
        self._entries: dict[str, Any] = {name: entry for name, entry in header.items() if name != "__metadata__"}

    def __iter__(self) -> Any:
        return iter(sorted(self._entries))

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    def offset(self, name: str) -> int:
        """Return where the bytes of a tensor begin in the file."""
        return self._start + int(self._entries[name]["data_offsets"][0])

    def nbytes(self, name: str) -> int:
        """Return the size of a tensor in bytes."""
        begin, end = self._entries[name]["data_offsets"]
        return int(end) - int(begin)

    def read(self, name: str) -> NDArray[Any]:
        """Read a tensor."""
        if name not in self._entries:
            raise BundleError(f"{self.path.name} has no tensor {name!r}; export the bundle again.")
        entry = self._entries[name]
        dtype = np.dtype(_DTYPES[entry["dtype"]])
        with open(self.path, "rb") as file:
            file.seek(self.offset(name))
            data = file.read(self.nbytes(name))
        return np.frombuffer(data, dtype=dtype).reshape(entry["shape"])
