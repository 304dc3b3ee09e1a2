"""The providers ``tensorrt`` and ``tensorrt-rtx``: graphs as engines of a folder that ``uigc build`` wrote."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

from uigc.engines import backend, build, device, sidecar
from uigc.engines.executor import Executor
from uigc.engines.precision import asked_for, giving
from uigc.engines.sidecar import Source
from uigc.runtime.bundle.graph_entry import graph_entry
from uigc.runtime.errors import EngineError
from uigc.runtime.providers import Graph, Provider, ProviderOptions

KERNELS = ".kernels"
FOLDER = "UIGC_ENGINES"  # environment variable: the folder of those who do not give one


@dataclass(frozen=True)
class TensorRT(Provider):
    """One flavour. Precisions are those in which the folder has engines; pixel networks and stages may differ."""

    name: str
    folder: Path | None = None

    @property
    def extra(self) -> str:
        return self.name

    @property
    def on_gpu(self) -> bool:
        return True

    @property
    def takes_engines(self) -> bool:
        return True

    def with_engines(self, folder: Path) -> TensorRT:
        """Return the same provider with the engines of that folder."""
        return replace(self, folder=folder)

    @property
    def engines(self) -> Path | None:
        named = os.environ.get(FOLDER)
        return self.folder or (Path(named) if named else None)

    @property
    def precisions(self) -> tuple[str, ...]:
        return self.verified or ("int8",)

    @property
    def pixel_precisions(self) -> tuple[str, ...]:
        preferred = "fp16", "int8"
        return self._found("decoder", preferred) or self._found("encoder", preferred) or ("fp16",)

    @property
    def batch(self) -> int:
        """The number of images that go through the engines together: as many as each of them takes."""
        if self.engines is None or not self.verified:
            return 1
        plans = [*self.engines.glob(f"stage*.{self.verified[0]}{sidecar.SUFFIX}")]
        pixels = [sidecar.plan_path(self.engines, graph, self.pixel_precisions[0]) for graph in ("encoder", "decoder")]
        plans += [path for path in pixels if path.is_file()]
        return min(int(profile["batch"]) for path in plans for profile in sidecar.Sidecar.read(path).profiles)

    @property
    def verified(self) -> tuple[str, ...]:
        return self._found("stage0", ("int8", "fp32", "fp16"))

    def _found(self, graph: str, preferred: tuple[str, ...]) -> tuple[str, ...]:
        there = sidecar.precisions(self.engines, graph) if self.engines else []
        return tuple(name for name in preferred if name in there)

    def problem(self) -> str | None:
        reason = backend.missing(self.name) or device.problem() or self._no_engines()
        return f"The provider {self.name!r} cannot run here: {reason}" if reason else None

    def _no_engines(self) -> str | None:
        command = f"build some with 'uigc build --backend {self.name} -o DIR'"
        if self.engines is None:
            return f"It was given no engines; name their folder with --engines or {FOLDER}, or {command}."
        if not list(self.engines.glob(f"*{sidecar.SUFFIX}")):
            return f"There are no engines in {self.engines}; {command}."
        return None

    def load(self, path: Path, options: ProviderOptions) -> Graph:
        """The engine of the ONNX file ``path`` of a bundle; an :class:`EngineError` unless it is of just that graph, of
        this version, and for this GPU. ``options`` are for providers that compile what they load."""
        device.check(options.device)
        entry, folder, cuda = graph_entry(path), self.engines, device.Cuda(options.device)
        source, target = sidecar.source_of(entry), cuda.target()
        if folder is None:
            raise EngineError(f"{self.name}: {self._no_engines()}")
        plan_path = sidecar.plan_path(folder, source.graph, source.precision)
        remedy = f"build it with '{self._command(path.parent, folder, source, target)}'"
        if not plan_path.is_file():
            there = ", ".join(sidecar.precisions(folder, source.graph)) or "none"
            raise EngineError(
                f"{folder} has no engine of {source.graph} in {source.precision} (it has {there}); {remedy}."
            )
        found = sidecar.Sidecar.read(plan_path, remedy)
        flavour = backend.find(self.name)
        identity = source, self.name, flavour.version, (target,), cuda.model()
        fault = sidecar.mismatch(found, sidecar.Sidecar(*identity, (), build.options(entry.proof)))
        if fault:
            raise EngineError(f"The engine {plan_path} {fault}; {remedy}.")
        plan = sidecar.read_checked_plan(plan_path, found, remedy)
        kernels = plan_path.with_suffix(KERNELS)
        return Executor(flavour, plan, found, kernels, options.device, options.ahead)

    def _command(self, bundle: Path, folder: Path, source: Source, target: str) -> str:
        """Return the command that builds the engine again: with its folder if one row of the table made it, else
        alone.
        """
        pixels = sidecar.precisions(folder, "decoder") or sidecar.precisions(folder, "encoder")
        asked = asked_for(pixels, sidecar.precisions(folder, "stage0"))
        chosen = f"--precision {asked}" if asked else f"--precision {giving(source)} --graph {source.graph}"
        ahead = f" --target {target}" if self.name == "tensorrt-rtx" else ""
        return f"uigc build {bundle} --backend {self.name} {chosen}{ahead} -o {folder}"


TENSORRT = TensorRT("tensorrt")
TENSORRT_RTX = TensorRT("tensorrt-rtx")
