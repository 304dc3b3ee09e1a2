"""The ONNX Runtime providers: ``cpu`` and ``cuda``. The package is imported when a graph is loaded, not before."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from uigc.runtime.bundle.manifest import PRECISIONS
from uigc.runtime.errors import ProviderError
from uigc.runtime.format.bitstream import PATCH
from uigc.runtime.providers import OPTIMIZATIONS, Graph, ProviderOptions
from uigc.runtime.providers.io_binding import BoundSession, SizedSessions

_LEVELS = {
    "off": "ORT_DISABLE_ALL",
    "basic": "ORT_ENABLE_BASIC",
    "extended": "ORT_ENABLE_EXTENDED",
    "all": "ORT_ENABLE_ALL",
}

_LARGE = 1 << 12  # tokens, an image of a megapixel
_AS_REQUESTED = 1  # ONNX Runtime's number for it


@cache
def _common_arena() -> bool:
    """Register one arena for the graphs of this process, which run in turn; each alone would keep what it once used.

    It grows by what is asked for, not by powers of two. False if the process has registered another allocator.
    """
    import onnxruntime as ort

    host = ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT)
    try:
        ort.create_and_register_allocator(host, ort.OrtArenaCfg({"arena_extend_strategy": _AS_REQUESTED}))
    except Exception:  # onnxruntime raises a dozen unrelated types
        return False
    return True


def _run_options(value: NDArray[Any]) -> Any:
    """After a large input the arena gives back what it holds: regions that one stage left are too small for the next.

    ``value``: tokens (batch, h, w), or images (batch, 3, H, W).
    """
    positions = value.size if value.ndim == 3 else value.size // (3 * PATCH**2)
    if positions < _LARGE:
        return None
    from onnxruntime import RunOptions

    options = RunOptions()
    options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
    return options


def _plain(session: Any) -> Graph:
    name = session.get_inputs()[0].name

    def run(value: NDArray[Any]) -> NDArray[Any]:
        output: NDArray[Any] = session.run(None, {name: value}, _run_options(value))[0]
        return output

    return run


class _Guarded:
    """``run``, whose errors are the provider's."""

    def __init__(self, run: Graph, name: str) -> None:
        self._run, self._name = run, name

    def __call__(self, value: NDArray[Any]) -> NDArray[Any]:
        try:
            return self._run(value)
        except ProviderError:
            raise
        except Exception as error:  # onnxruntime raises a dozen unrelated types
            raise ProviderError(
                f"The provider {self._name!r} failed on an input of {value.shape}: {str(error).splitlines()[0]}; "
                "if memory ran out, scale the image down."
            ) from error


class OnnxRuntime:
    """One execution provider of ONNX Runtime, without fallback to another."""

    def __init__(
        self,
        name: str,
        extra: str,
        execution_provider: str,
        precisions: tuple[str, ...],
        pixel_precisions: tuple[str, ...],
        threads: tuple[int | None, ...],
        batch: int = 1,
        device: str | None = None,
        captured: bool = False,
    ) -> None:
        """``threads``: the thread counts under which it is verified, besides its own choice; ``batch``: how many
        images of one size it takes together, where there are many and nothing is asked for; ``device``: where inputs
        and outputs have their places, None if that is the memory of the host; ``captured``: each size has a session of
        its own, to which it is a constant, and is captured as a CUDA graph when it first comes, and replayed from then
        on."""
        self.batch, self.device, self.captured = batch, device, captured
        self.name, self.extra, self.execution_provider = name, extra, execution_provider
        self.precisions, self.pixel_precisions, self.verified = precisions, pixel_precisions, PRECISIONS
        levels = [ProviderOptions(count, level) for count in threads for level in reversed(OPTIMIZATIONS)]
        self.settings = tuple(dict.fromkeys([ProviderOptions(), *levels]))

    def problem(self) -> str | None:
        if importlib.util.find_spec("onnxruntime") is None:
            return (
                f"The provider {self.name!r} needs onnxruntime, which is not installed; "
                f"install it with: pip install 'uigc[{self.extra}]'."
            )
        import onnxruntime

        if self.execution_provider not in onnxruntime.get_available_providers():
            return (
                f"The installed onnxruntime {onnxruntime.__version__} has no {self.execution_provider}; remove "
                f"onnxruntime and install uigc[{self.extra}] on a machine that has the device, or use another provider."
            )
        return None

    def load(self, path: Path, options: ProviderOptions) -> Graph:
        session, device = self._session(path, options), self.device
        if device is None:
            return _Guarded(_plain(session), self.name)
        if not self.captured:
            return _Guarded(BoundSession(session, device), self.name)
        sizes = session.get_inputs()[0].shape  # names, where they are free

        def fixed(shape: tuple[int, ...]) -> Graph:
            named = {name: size for name, size in zip(sizes, shape, strict=True) if isinstance(name, str)}
            return BoundSession(self._session(path, options, named), device, captured=True)

        return _Guarded(SizedSessions(fixed), self.name)

    def _session(self, path: Path, options: ProviderOptions, sizes: Mapping[str, int] | None = None) -> Any:
        """``sizes``: of free dimensions of the input, by their names."""
        import onnxruntime

        settings = onnxruntime.SessionOptions()
        settings.log_severity_level = 3
        if options.threads is not None:
            settings.intra_op_num_threads = options.threads
        # A plan of the memory for each size of input would take as much again as the arena holds for the first run.
        settings.enable_mem_pattern = False
        settings.add_session_config_entry("session.use_env_allocators", "1" if _common_arena() else "0")
        # Every graph has its own threads; those of one would go on spinning on the cores that the next one needs.
        settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
        for name, size in (sizes or {}).items():
            settings.add_free_dimension_override_by_name(name, size)
        level = onnxruntime.GraphOptimizationLevel
        settings.graph_optimization_level = getattr(level, _LEVELS[options.optimization])
        try:
            provider = self.execution_provider, {"enable_cuda_graph": "1"} if self.captured else {}
            session = onnxruntime.InferenceSession(str(path), settings, providers=[provider])
        except Exception as error:  # onnxruntime raises a dozen unrelated types
            raise ProviderError(
                f"The provider {self.name!r} could not load {path.name}: {str(error).splitlines()[0]}; "
                "check the bundle with 'uigc doctor'."
            ) from error
        if self.execution_provider not in session.get_providers():
            raise ProviderError(
                f"onnxruntime did not start {self.execution_provider} and offered {session.get_providers()} instead; "
                f"check the device and its driver, or ask for another provider than {self.name!r}."
            )
        return session


CPU = OnnxRuntime("cpu", "cpu", "CPUExecutionProvider", ("int8", "fp32"), ("int8", "fp32"), threads=(1, 2))
_CUDA: dict[str, Any] = {
    "extra": "gpu", "execution_provider": "CUDAExecutionProvider", "precisions": ("fp32",),
    "pixel_precisions": ("fp32",), "threads": (None,), "batch": 8, "device": "cuda",
}  # fmt: skip
CUDA = OnnxRuntime("cuda", **_CUDA)
CUDA_GRAPHS = OnnxRuntime("cuda-graphs", **_CUDA, captured=True)
