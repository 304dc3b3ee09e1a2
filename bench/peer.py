"""CompressAI in a process of its own, by an interpreter of its own: it wants other versions of packages than we do."""

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

from uigc.bench import compressai_worker
from uigc.runtime.errors import DependencyError

# A context model, which decodes latent by latent, and a hyperprior alone; see https://interdigitalinc.github.io/CompressAI.
MODELS = {"mbt2018": "context model, autoregressive", "bmshj2018-hyperprior": "hyperprior"}


class Peer:
    """A worker process that decodes an image with each of ``MODELS`` on request."""

    def __init__(self, python: str, image: NDArray[np.uint8], threads: int) -> None:
        """``python``: an interpreter that has CompressAI; ``image`` uint8 (H, W, 3)."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "picture"
            path.write_bytes(image.tobytes())
            worker = Path(shutil.copy(compressai_worker.__file__, folder))  # whose folder comes first in its sys.path
            command = [python, worker, path, *image.shape[:2], threads, *MODELS]
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
            raise DependencyError(f"CompressAI ended in {who}, for the reason above; install it there.")
        return line

    def decoding(self, model: str) -> Callable[[], float]:
        """Return a function that decodes once in the worker and returns the seconds that it took there."""

        def decode() -> float:
            assert self._process.stdin is not None
            self._process.stdin.write(f"{model}\n")
            self._process.stdin.flush()
            return float(self._answer(model))

        return decode

    def setting(self, model: str) -> dict[str, Any]:
        return {"runtime": "compressai", "model": model, "provider": "cpu", "precision": "fp32"}

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()
