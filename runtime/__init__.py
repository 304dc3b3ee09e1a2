"""The deployment runtime of uigc: numpy, constriction, Pillow and one provider. It never imports torch.

>>> from uigc.runtime import Codec
>>> codec = Codec()
>>> data = codec.compress(image, mask="edge")
>>> image = codec.decompress(data)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from uigc.runtime.bundle import Bundle
    from uigc.runtime.codec import Codec, Encoded
    from uigc.runtime.errors import ExitCode, UigcError

__all__ = ["Bundle", "Codec", "Encoded", "ExitCode", "UigcError"]

_HOMES = {"Bundle": "bundle", "Codec": "codec", "Encoded": "codec", "ExitCode": "errors", "UigcError": "errors"}


def __getattr__(name: str) -> Any:
    # Loaded on first use, so that `uigc --help` waits for neither numpy nor the coder.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
