"""An image codec for ultra-low bitrates, with files that decode bit-exactly on every machine.

>>> import uigc
>>> data = uigc.compress("photo.jpg", mask="edge")
>>> image = uigc.decompress(data)
>>> codec = uigc.Codec(provider="cpu", threads=1)

These names are the public interface (``docs/API.md``); everything else lives in the packages below ``uigc``. Each is
loaded on first use, so that ``import uigc`` and ``uigc --help`` wait for neither numpy nor the range coder.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from uigc.runtime.bundle import Bundle
    from uigc.runtime.codec import Codec
    from uigc.runtime.errors import ExitCode, UigcError
    from uigc.runtime.format.bitstream import read_header
    from uigc.runtime.format.mask import Mask
    from uigc.runtime.progressive import PartialImage, ProgressiveDecoder, decompress_partial
    from uigc.runtime.shortcuts import compress, decompress, info

    __version__: str

__all__ = [
    "Bundle", "Codec", "ExitCode", "Mask", "PartialImage", "ProgressiveDecoder", "UigcError", "__version__", "compress",
    "decompress", "decompress_partial", "info", "read_header",
]  # fmt: skip

_HOMES = {
    "Bundle": "uigc.runtime.bundle",
    "Codec": "uigc.runtime.codec",
    "ExitCode": "uigc.runtime.errors",
    "Mask": "uigc.runtime.format.mask",
    "PartialImage": "uigc.runtime.progressive",
    "ProgressiveDecoder": "uigc.runtime.progressive",
    "UigcError": "uigc.runtime.errors",
    "compress": "uigc.runtime.shortcuts",
    "decompress": "uigc.runtime.shortcuts",
    "decompress_partial": "uigc.runtime.progressive",
    "info": "uigc.runtime.shortcuts",
    "read_header": "uigc.runtime.format.bitstream",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("uigc")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
