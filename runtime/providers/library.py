"""The one place that imports the libraries which run graphs, with their telemetry off."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from threading import Lock
from typing import Any

from uigc.runtime.bundle.manifest import WEIGHTS
from uigc.runtime.errors import ProviderError

_IMPORTING = Lock()


def missing(provider: str, extra: str, package: str) -> str | None:
    """Return the sentence on a package that a provider needs and that is not installed; None if it is."""
    if importlib.util.find_spec(package) is not None:
        return None
    return (
        f"The provider {provider!r} needs {package}, which is not installed; "
        f"install it with: pip install 'uigc[{extra}]'."
    )


def broken(provider: str, extra: str, package: str, error: Exception) -> str:
    """Return the sentence on a package that a provider needs and that cannot be imported."""
    return (
        f"The installed {package} cannot be imported ({' '.join(str(error).split())}), which the provider "
        f"{provider!r} needs; repair it with: pip install --force-reinstall 'uigc[{extra}]'."
    )


def import_onnxruntime() -> Any:
    """Import ``onnxruntime`` with its telemetry off, and return the module.

    From 1.29 on, official wheels write a device identifier and a queue of events into the user's cache and look up a
    collector, unless this environment variable is set before the import. A user who wants telemetry sets it to 0.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    return onnxruntime


def import_openvino() -> Any:
    """Import ``openvino`` with its telemetry off, and return the module.

    Its import looks up a collector and writes an identifier into the user's home, unless the package that does this is
    absent, in which case it takes a stub instead. A user who wants telemetry imports ``openvino`` first.
    """
    telemetry = "openvino_telemetry"
    with _IMPORTING:
        hidden = telemetry not in sys.modules
        if hidden:
            sys.modules[telemetry] = None  # type: ignore[assignment]  # which makes importing it an ImportError
        try:
            import openvino
        finally:
            if hidden:
                del sys.modules[telemetry]
    return openvino


def expect_weights_beside(path: Path, library: str, word: str, error: Exception) -> None:
    """Raise a :class:`ProviderError` if a graph was refused because its weights are a link to another folder.

    ``path``: the graph; ``library``: what refused it; ``word``: what ``error`` says if that was the reason.
    """
    weights = path.parent / WEIGHTS
    if word in str(error) and weights.is_symlink():
        raise ProviderError(
            f"{weights} is a link to {weights.resolve().parent}, and {library} reads weights only beside the graph; "
            "copy the bundle with its links followed (cp -rL), and use the copy."
        ) from error
