"""The providers on ONNX Runtime: ``cpu``, ``cuda`` and ``cuda-graphs``.

The package ``onnxruntime`` is imported when a graph is loaded, not before.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from uigc.runtime.bundle.graph_entry import graph_entry
from uigc.runtime.errors import ProviderError
from uigc.runtime.format.bitstream import PATCH
from uigc.runtime.providers import cuda, optimized_graphs
from uigc.runtime.providers.base import OPTIMIZATIONS, Graph, Provider, ProviderOptions
from uigc.runtime.providers.guarded import Guarded, first_line
from uigc.runtime.providers.io_binding import BoundSession, SizedSessions
from uigc.runtime.providers.library import broken, expect_weights_beside, import_onnxruntime, missing
from uigc.runtime.providers.worker import Worker, WorkerGraph

_LEVELS = {
    "off": "ORT_DISABLE_ALL",
    "basic": "ORT_ENABLE_BASIC",
    "extended": "ORT_ENABLE_EXTENDED",
    "all": "ORT_ENABLE_ALL",
}

_LARGE = 1 << 12  # tokens: an image of a megapixel
_AS_REQUESTED = 1  # ONNX Runtime's number for the strategy kSameAsRequested


@cache
def _worker(name: str) -> Worker:
    """Return the thread of a captured provider."""
    return Worker(name)


@cache
def _common_arena() -> bool:
    """Register one arena for all graphs of this process, and return whether that worked.

    Graphs run in turn, and with an arena each they would all keep what they once used. The arena grows by the size
    requested, not by powers of two. False if the process has registered another allocator before.
    """
    ort = import_onnxruntime()
    host = ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT)
    try:
        ort.create_and_register_allocator(host, ort.OrtArenaCfg({"arena_extend_strategy": _AS_REQUESTED}))
    except Exception:  # onnxruntime raises a dozen unrelated types
        return False
    return True


def _run_options(value: NDArray[Any]) -> Any:
    """Return options that make the arena give back its memory after a large input, None for a small one.

    The regions that a large stage leaves are too small for the next. ``value``: tokens (batch, h, w), or images (batch,
    H, W, 3), of earlier bundles (batch, 3, H, W).
    """
    positions = value.size if value.ndim == 3 else value.size // (3 * PATCH**2)
    if positions < _LARGE:
        return None
    options = import_onnxruntime().RunOptions()
    options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
    return options


class _PlainSession(Graph):
    """A session whose input and output lie in the memory of the host."""

    def __init__(self, session: Any) -> None:
        self._session, self._input = session, session.get_inputs()[0].name

    def __call__(self, value: NDArray[Any]) -> NDArray[Any]:
        output: NDArray[Any] = self._session.run(None, {self._input: value}, _run_options(value))[0]
        return output


@dataclass(frozen=True)
class OnnxRuntime(Provider):
    """One execution provider of ONNX Runtime, which never falls back to another.

    ``execution_provider``: ONNX Runtime's name for it.
    ``threads``: the thread counts under which ``uigc verify`` tries it, besides its own choice (None).
    ``device``: ONNX Runtime's name of the device that holds inputs and outputs, None for the memory of the host.
    ``captured``: every input size has a session of its own, in which that size is a constant; it is captured as a CUDA
    graph when the size first comes, and replayed from then on. ONNX Runtime captures for each thread anew, and a
    capture fails if another thread allocates or copies meanwhile: one thread runs all captured sessions of a provider.
    It knows nothing of other users of CUDA in the process, such as PyTorch or the uncaptured provider, which can still
    break a capture: ONNX Runtime captures in CUDA's global mode.
    """

    # Each has a default, because these fields replace properties of the base class.
    name: str = ""
    extra: str = ""
    execution_provider: str = ""
    precisions: tuple[str, ...] = ("fp32",)
    pixel_precisions: tuple[str, ...] = ("fp32",)
    threads: tuple[int | None, ...] = (None,)
    batch: int = 1
    device: str | None = None
    captured: bool = False

    @property
    def settings(self) -> tuple[ProviderOptions, ...]:
        """Its own choice, then every thread count at every level of optimization."""
        levels = [ProviderOptions(count, level) for count in self.threads for level in reversed(OPTIMIZATIONS)]
        return tuple(dict.fromkeys([ProviderOptions(), *levels]))

    def problem(self) -> str | None:
        if sentence := missing(self.name, self.extra, "onnxruntime"):
            return sentence
        try:
            onnxruntime = import_onnxruntime()
        except ImportError as error:
            return broken(self.name, self.extra, "onnxruntime", error)
        if self.execution_provider not in onnxruntime.get_available_providers():
            return (
                f"The installed onnxruntime {onnxruntime.__version__} has no {self.execution_provider}; remove "
                f"onnxruntime and install uigc[{self.extra}] on a machine that has the device, or use another provider."
            )
        reason = cuda.problem() if self.on_gpu else None
        return f"The provider {self.name!r} cannot start here: {reason}." if reason else None

    @property
    def on_gpu(self) -> bool:
        return self.execution_provider == cuda.PROVIDER

    def load(self, path: Path, options: ProviderOptions) -> Graph:
        if self.on_gpu:
            cuda.check(options.device)
        device = self.device
        if device is None:
            return Guarded(_PlainSession(self._session(path, options)), self.name)
        if not self.captured:
            return Guarded(BoundSession(self._session(path, options), device, options.device), self.name)
        # From the manifest: a session of free sizes cannot be captured, and ONNX Runtime refuses to start it.
        dimensions = graph_entry(path).dimensions

        def session_of(shape: tuple[int, ...]) -> Graph:
            sizes = {name: size for name, size in zip(dimensions, shape, strict=True) if isinstance(name, str)}
            return BoundSession(self._session(path, options, sizes), device, options.device, captured=True)

        return WorkerGraph(Guarded(SizedSessions(session_of), self.name), _worker(self.name))

    def _session(self, path: Path, options: ProviderOptions, sizes: Mapping[str, int] | None = None) -> Any:
        """Start a session; ``sizes``: the sizes of free dimensions of the input, by their names."""
        if self.device is not None:
            return self._started(path, str(path), self._settings(options, sizes or {}), options.device)
        settings, start = partial(self._settings, sizes={}), partial(self._started, path)
        return optimized_graphs.session(path, options, settings, start, self.execution_provider)

    def _started(self, path: Path, graph: str | bytes, settings: Any, device: int = 0) -> Any:
        """Start a session of the file of a graph or of its bytes; ``path``: the file that errors name."""
        onnxruntime = import_onnxruntime()
        chosen: dict[str, str] = {}
        if self.on_gpu:
            chosen = cuda.session_options(graph_entry(path), device, self.captured)
        try:
            provider = self.execution_provider, chosen
            # ONNX Runtime's own fallback would print to standard output and try another provider.
            session = onnxruntime.InferenceSession(graph, settings, providers=[provider], enable_fallback=0)
        except Exception as error:  # onnxruntime raises a dozen unrelated types
            expect_weights_beside(path, "ONNX Runtime", "escapes", error)
            raise ProviderError(
                f"The provider {self.name!r} could not load {path.name}: {first_line(error)}; "
                "check the bundle with 'uigc doctor'."
            ) from error
        if self.execution_provider not in session.get_providers():
            raise ProviderError(
                f"onnxruntime did not start {self.execution_provider} and offered {session.get_providers()} instead; "
                f"check the device and its driver, or ask for another provider than {self.name!r}."
            )
        return session

    def _settings(self, options: ProviderOptions, sizes: Mapping[str, int]) -> Any:
        """Return the options of a session that do not depend on the execution provider."""
        onnxruntime = import_onnxruntime()
        settings = onnxruntime.SessionOptions()
        settings.log_severity_level = 3
        if options.threads is not None:
            settings.intra_op_num_threads = options.threads
        # The memory pattern of each input size would take as much memory again as the arena holds for the first run.
        settings.enable_mem_pattern = False
        settings.add_session_config_entry("session.use_env_allocators", "1" if _common_arena() else "0")
        # Every graph has its own threads, and spinning threads would occupy the cores that the next graph needs.
        settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
        for name, size in sizes.items():
            settings.add_free_dimension_override_by_name(name, size)
        level = onnxruntime.GraphOptimizationLevel
        settings.graph_optimization_level = getattr(level, _LEVELS[options.optimization])
        return settings


CPU = OnnxRuntime(
    name="cpu",
    extra="cpu",
    execution_provider="CPUExecutionProvider",
    precisions=("int8", "fp32"),
    pixel_precisions=("int8", "fp32"),
    threads=(1, 2),
)
CUDA = OnnxRuntime(
    name="cuda",
    extra="gpu",
    execution_provider=cuda.PROVIDER,
    pixel_precisions=("fp32", "fp16"),
    batch=8,
    device="cuda",
)
CUDA_GRAPHS = replace(CUDA, name="cuda-graphs", captured=True)
