"""The kernels that TensorRT for RTX compiles for the GPU at hand, kept in a file from one process to the next."""

from __future__ import annotations

import logging
from contextlib import suppress
from pathlib import Path
from typing import Any

from uigc.engines.backend import Backend
from uigc.runtime.io.atomic import replace as replace_file

LOG = logging.getLogger("uigc")


class KernelCache:
    """The kernels of one engine, shared by all of its contexts.

    ``path``: the file that holds them; None to forget them.
    """

    def __init__(self, backend: Backend, path: Path | None) -> None:
        self._backend, self._path = backend, path
        self._cache: Any = None
        self._known = b""

    def use(self, config: Any) -> None:
        """Let the contexts of a runtime configuration take kernels from here, and add to them."""
        if self._cache is None:
            self._cache = self._backend.checked(config.create_runtime_cache(), "make a cache of kernels")
            if self._path is not None:
                with suppress(OSError):  # there are none yet, or they cannot be read
                    self._known = self._path.read_bytes()
            if self._known and not self._cache.deserialize(self._known):
                self._known = b""  # those of another GPU or driver are refused, and compiled anew
                self._backend.log.take()  # which is no error
        self._backend.checked(config.set_runtime_cache(self._cache), "use a cache of kernels")

    def save(self) -> None:
        """Write the kernels if there are new ones. A folder that cannot be written is not an error."""
        if self._path is None or self._cache is None:
            return
        made = self._cache.serialize()
        if made is None:
            LOG.debug("the kernels cannot be kept: %s", self._backend.log.take())
            return
        data = bytes(made)
        if data != self._known:
            with suppress(OSError):
                replace_file(self._path, lambda part: part.write_bytes(data))
                self._known = data
