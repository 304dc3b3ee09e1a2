"""Contenders in a process of their own, by an interpreter of their own: CompressAI, which wants other versions of
packages than we do, and earlier versions of uigc."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uigc.bench import compressai_worker, earlier_worker, host_worker
from uigc.runtime.errors import DependencyError

# A context model, which decodes latent by latent, and a hyperprior alone; see https://interdigitalinc.github.io/CompressAI.
MODELS = {"mbt2018": "context model, autoregressive", "bmshj2018-hyperprior": "hyperprior"}


class Peer:
    """A worker process that decodes an image on request, as what its line says; ``facts`` is what it says of itself."""

    def __init__(self, python: str, what: str, worker: str, image: NDArray[np.uint8], threads: int, *more: str) -> None:
        """``python``: an interpreter that has ``what``, which ``worker``, a file, runs; ``image`` uint8 (H, W, 3)."""
        self._what = what
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "picture"
            path.write_bytes(image.tobytes())
            alone = Path(shutil.copy(worker, folder))  # whose folder comes first in its sys.path
            command = [python, alone, path, *image.shape[:2], threads, *more]
            try:
                self._process = subprocess.Popen(
                    [str(part) for part in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
                )
            except OSError as error:
                raise DependencyError(f"{python} cannot be run ({error.strerror}); give another interpreter.") from None
            self.facts: dict[str, Any] = json.loads(self._answer(python))

    def _answer(self, who: str) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._process.wait()
            raise DependencyError(f"{self._what} ended in {who}, for the reason above; install it there.")
        return line

    def decoding(self, name: str) -> Callable[[], float]:
        """Return a function that decodes once in the worker and returns the seconds that it took there."""

        return lambda: float(self.decode(name))

    def decode(self, name: str) -> str:
        """Decode once in the worker and return the line that it answers."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{name}\n")
        self._process.stdin.flush()
        return self._answer(name)

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def compressai(python: str, image: NDArray[np.uint8], threads: int) -> Peer:
    """Return a process that decodes with each of ``MODELS``."""
    return Peer(python, "CompressAI", compressai_worker.__file__, image, threads, *MODELS)


def earlier(python: str, image: NDArray[np.uint8], threads: int, mask: str) -> Peer:
    """Return a process that decodes with another version of uigc and its default bundle, which write the file, too."""
    return Peer(python, "uigc", earlier_worker.__file__, image, threads, mask)


def host(python: str, image: NDArray[np.uint8], mask: str, *bundle: str) -> Peer:
    """Return a process that tells apart graphs and host of a decode, in the uigc of ``python`` and by one thread."""
    return Peer(python, "uigc", host_worker.__file__, image, 1, mask, *bundle)
