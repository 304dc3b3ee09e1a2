"""Graphs as ONNX Runtime optimized them before, on this machine.

Most of the time in which a session starts goes into rewriting its graph. What the graph became is kept among the
compiled models (``compiled_models.py``), and the next session starts from it without a change: it runs the same nodes
on the same constants.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from uigc.runtime.errors import BundleError, ProviderError
from uigc.runtime.providers import compiled_models
from uigc.runtime.providers.base import ProviderOptions
from uigc.runtime.providers.library import import_onnxruntime

AS_IT_IS = "off"
"""The optimization under which ONNX Runtime leaves a graph as it is: there is nothing to keep."""

Settings = Callable[[ProviderOptions], Any]
Start = Callable[[str | bytes, Any], Any]


def session(path: Path, options: ProviderOptions, settings: Settings, start: Start, runs_on: str) -> Any:
    """Start a session of a graph: from what it became when it was optimized before, or anew, which is then kept.

    ``runs_on``: ONNX Runtime's name of the execution provider for which it is optimized.

    ``settings(options)`` gives new session options; ``start(graph, settings)`` starts a session of a path or of the
    bytes of a graph, and raises a :class:`ProviderError` if it cannot.
    """
    if options.optimization == AS_IT_IS or not compiled_models.kept():
        return start(str(path), settings(options))
    try:
        key = key_of(path, options.optimization, runs_on)
    except BundleError:  # as of a graph that calibration tries, before it becomes part of a bundle
        return start(str(path), settings(options))
    if (kept := compiled_models.read(key)) is not None:
        with suppress(ProviderError):  # whatever is wrong with it, the graph can be optimized anew
            found = start(kept, _beside(path, settings(replace(options, optimization=AS_IT_IS))))
            found._model_bytes = None  # which it would hold for a fallback that is off
            return found
    with suppress(OSError, RuntimeError, ProviderError):  # a cache that cannot be written, or not that much
        return _optimized(path, settings(options), start, key)
    return start(str(path), settings(options))  # or the error that counts


def _optimized(path: Path, settings: Any, start: Start, key: bytes) -> Any:
    """Start a session of a graph, and keep what it became."""
    with compiled_models.part() as written:
        settings.optimized_model_filepath = str(written)
        found = start(str(path), settings)
        compiled_models.keep(path, key, written.read_bytes)
        return found


def key_of(path: Path, optimization: str, runs_on: str) -> bytes:
    """Return the key of an optimized graph among the compiled models."""
    onnxruntime = import_onnxruntime()
    made_by = "onnxruntime", onnxruntime.__version__, onnxruntime.get_build_info(), runs_on, optimization
    return compiled_models.key_of(path, *made_by)


def _beside(path: Path, settings: Any) -> Any:
    """Return the settings with which a graph of bytes finds the weights that lie beside ``path``."""
    settings.add_session_config_entry("session.model_external_initializers_file_folder_path", str(path.parent))
    return settings
