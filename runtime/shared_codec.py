"""Codecs that are shared: one in a process for the same options, so that its graphs are loaded once."""

from __future__ import annotations

import os
from inspect import signature
from threading import Lock
from typing import Any

from uigc.runtime.bundle import Bundle
from uigc.runtime.codec import Codec
from uigc.runtime.errors import BundleError

_SIGNATURE = signature(Codec)
OPTIONS = tuple(_SIGNATURE.parameters)
"""The names of a codec's options."""
_FOLDERS = ("bundle", "engines")

_Key = tuple[str, ...]
_codecs: dict[_Key, Codec] = {}
_lock = Lock()


def shared_codec(**options: Any) -> Codec:
    """Return the codec with these options of :class:`Codec`, made when it is first asked for.

    Any number of threads may ask for it and use it, and so may forked processes. It stays in memory to the end of the
    process; if its bundle was replaced in the meantime, the next call makes another one.
    """
    key = _key(options)
    with _lock:
        codec = _codecs.get(key)
        if codec is None or not _is_current(codec):
            codec = _codecs[key] = Codec(**options)
        return codec


def check_names(options: dict[str, Any]) -> None:
    """Raise a TypeError unless all options are a codec's."""
    _SIGNATURE.bind(**options)


def _key(options: dict[str, Any]) -> _Key:
    """Return the same for the same options, whether they are stated or left out; raises a TypeError for others."""
    bound = _SIGNATURE.bind(**options)
    bound.apply_defaults()
    return tuple(repr(_place(value) if name in _FOLDERS else value) for name, value in bound.arguments.items())


def _place(folder: Any) -> Any:
    """Return the absolute path of a bundle or folder; programs change their working directory."""
    path = folder.path if isinstance(folder, Bundle) else folder
    return os.path.abspath(path) if isinstance(path, str | os.PathLike) else path


def _is_current(codec: Codec) -> bool:
    try:
        codec.bundle.check_unchanged()
    except BundleError:
        return False
    return True


def _after_fork() -> None:
    global _lock
    _lock = Lock()  # a thread of the parent may have held it


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
