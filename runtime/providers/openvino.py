"""The provider ``openvino``: OpenVINO on the CPU, in float32 and int8 and in nothing in between.

The package ``openvino`` is imported when a graph is loaded, not before.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uigc.runtime.environment import package_version
from uigc.runtime.errors import ProviderError, UigcError, UsageError
from uigc.runtime.providers import compiled_models
from uigc.runtime.providers.base import Graph, Provider, ProviderOptions
from uigc.runtime.providers.guarded import Guarded
from uigc.runtime.providers.library import broken, expect_weights_beside, import_openvino, missing

OLDEST = 2026, 2
DEVICE = "CPU"
# Without the first, OpenVINO computes in bfloat16 on processors that have it, and half of all logits are wrong; the
# others keep it from other shortcuts.
EXACT = {
    "INFERENCE_PRECISION_HINT": "f32",
    "EXECUTION_MODE_HINT": "ACCURACY",
    "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0,
}


_STARTING = Lock()


def _core() -> Any:
    """Start OpenVINO once, and run something in one thread.

    Its bindings set up their use of numpy in the first call, and release Python's lock meanwhile: two threads whose
    first calls coincide wait for each other for ever.
    """
    with _STARTING:
        return _started()


@cache
def _started() -> Any:
    library = import_openvino()
    core, operators = library.Core(), library.opset13
    value = operators.parameter([-1], np.int32)
    model = core.compile_model(library.Model([operators.abs(value)], [value]), DEVICE, settings_of(ProviderOptions()))
    _Compiled(model)(np.zeros(1, np.int32))
    return core


def _told(error: Exception) -> str:
    """Return the first line of OpenVINO's error that is not of the places in its code which it came through."""
    lines = [line.strip() for line in str(error).splitlines()]
    return next((line for line in lines if line and not line.startswith("Exception from ")), type(error).__name__)


class _Compiled(Graph):
    """A compiled model. Every call has a request of its own, so that several threads may use it."""

    def __init__(self, model: Any) -> None:
        self._model = model

    def __call__(self, value: NDArray[Any]) -> NDArray[Any]:
        model = self._model
        if model is None:
            raise UsageError("The graph is closed, and an open one is needed; load it again.")
        # The output is the request's memory, which is the caller's now, because nobody else knows the request.
        output: NDArray[Any] = model.create_infer_request().infer([value], share_inputs=True, share_outputs=True)[0]
        return output

    def close(self) -> None:
        self._model = None


class OpenVino(Provider):
    """OpenVINO on the CPU.

    It rewrites graphs as it likes, at every ``optimization``. Compiled models are kept in the cache folder
    (``compiled_models.py``).
    """

    name, extra = "openvino", "openvino"
    precisions = pixel_precisions = ("int8", "fp32")
    settings = (ProviderOptions(), ProviderOptions(threads=1), ProviderOptions(threads=2))

    def problem(self) -> str | None:
        if sentence := missing(self.name, self.extra, "openvino"):
            return sentence
        try:
            version = import_openvino().__version__
            outdated = tuple(map(int, version.split("-")[0].split(".")[:2])) < OLDEST
            devices = [] if outdated else _core().available_devices
        except Exception as error:  # of the import, or of a library that it loads
            return broken(self.name, self.extra, "openvino", error)
        if outdated:
            return (
                f"The installed openvino is {version}, and the provider {self.name!r} needs "
                f"{OLDEST[0]}.{OLDEST[1]} or later; update it with: pip install --upgrade 'uigc[{self.extra}]'."
            )
        if DEVICE not in devices:
            return f"openvino {version} offers no {DEVICE} here but {devices}; use another provider."
        return None

    def load(self, path: Path, options: ProviderOptions) -> Graph:
        try:
            model = self.model(path, settings_of(options))
        except UigcError:
            raise
        except Exception as error:  # it says RuntimeError, of which it has no kinds
            expect_weights_beside(path, "OpenVINO", "outside the base directory", error)
            raise ProviderError(
                f"The provider {self.name!r} could not load {path.name}: {_told(error)}; "
                "check the bundle with 'uigc doctor'."
            ) from error
        return Guarded(_Compiled(model), self.name, _told)

    def model(self, path: Path, settings: dict[str, Any]) -> Any:
        """Return OpenVINO's compiled model of a graph: the one that was kept, or a new one, which is then kept."""
        key = key_of(path, settings)
        kept = _kept(key, settings)
        model = _compile(path, settings) if kept is None else kept
        _expect_float32(model)
        if kept is None:
            compiled_models.keep(path, key, lambda: model.export_model().getvalue())
        return model


def settings_of(options: ProviderOptions) -> dict[str, Any]:
    """Return OpenVINO's settings for a graph."""
    threads = {} if options.threads is None else {"INFERENCE_NUM_THREADS": options.threads}
    # Pinned threads of two processes would share a core while others idle.
    return EXACT | {"PERFORMANCE_HINT": "LATENCY", "ENABLE_CPU_PINNING": False} | threads


def capabilities() -> list[str]:
    """Return the types in which OpenVINO can compute on this processor, as it calls them."""
    return sorted(_core().get_property(DEVICE, "OPTIMIZATION_CAPABILITIES"))


def key_of(path: Path, settings: dict[str, Any]) -> bytes:
    """Return the key of the compiled model of a graph."""
    versions = package_version("openvino"), import_openvino().__version__
    return compiled_models.key_of(path, "openvino", *versions, settings, capabilities())


def _compile(path: Path, settings: dict[str, Any]) -> Any:
    return _core().compile_model(str(path), DEVICE, settings)


def _kept(key: bytes, settings: dict[str, Any]) -> Any:
    """Return the model that was compiled before; None if there is none, or if OpenVINO does not take it."""
    kept = compiled_models.read(key)
    if kept is None:
        return None
    try:
        return _core().import_model(kept, DEVICE, settings)
    except Exception:  # whatever is wrong with the file, the graph can be compiled anew
        return None


def _expect_float32(model: Any) -> None:
    """Raise a :class:`ProviderError` if a model rounds to fewer bits than it was told to."""
    found = model.get_property("INFERENCE_PRECISION_HINT").get_type_name()
    if found != "f32":
        raise ProviderError(
            f"OpenVINO was asked to compute in f32 and says that it computes in {found}; use another provider."
        )


OPENVINO = OpenVino()
