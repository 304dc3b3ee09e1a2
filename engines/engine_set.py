"""All engines of a bundle into a folder. What is there already, and is the same, is not built again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from uigc.engines import build, device, sidecar
from uigc.engines.backend import Backend
from uigc.engines.plan_census import UNKNOWN, share, shares
from uigc.engines.precision import resolve
from uigc.engines.profile import Profile
from uigc.engines.sidecar import Sidecar
from uigc.runtime.bundle import Bundle
from uigc.runtime.errors import EngineError, ProviderError, UsageError

TARGETS = "sm86", "sm89", "sm120"
"""GPUs that engines are built for unless told otherwise, where the backend builds ahead of time."""
TIMING_CACHE = "timing.cache"
# First guess of the build time, in seconds per node of a graph and per profile; the rate of the first engine replaces
# it. TensorRT for RTX compiles kernels when an engine is loaded, TensorRT times them when it is built.
_FIRST_GUESS = {"tensorrt": 0.2, "tensorrt-rtx": 0.005}
Say = Callable[[str], None]


@dataclass(frozen=True)
class Order:
    """The engines to build: ``precision`` of ``precision.TABLE``; ``targets``, none for the backend's choice;
    ``graphs``, none for all; ``device``, which of several GPUs builds them, where one does."""

    precision: str
    profiles: tuple[Profile, ...]
    targets: tuple[str, ...] = ()
    graphs: tuple[str, ...] = ()
    device: int = 0


def resolve_order(bundle: Bundle, backend: Backend, order: Order) -> list[Sidecar]:
    """Return the engines of an order, checked as far as possible without building."""
    known = list(bundle.manifest["graphs"])
    unknown = [name for name in order.graphs if name not in known]
    if unknown:
        raise UsageError(f"The bundle has no graph {', '.join(unknown)}; choose of: {', '.join(known)}.")
    targets, gpu = _targets(backend, order)
    names = [name for name in known if name in (order.graphs or known)]
    return [
        build.describe_engine(bundle, backend, name, resolve(order.precision, name), targets, order.profiles, gpu)
        for name in names
    ]


def _targets(backend: Backend, order: Order) -> tuple[tuple[str, ...], str]:
    """Return the targets asked for, or the default ones; where the backend has no choice, the GPU that is here, and its
    model: it times kernels, so that its engines are for this model only."""
    if order.targets or backend.targets():
        return tuple(backend.chosen_targets(order.targets or TARGETS)), ""
    problem = device.problem()
    if problem:
        raise ProviderError(f"{backend.name} builds engines on the GPU that will run them: {problem}")
    device.check(order.device)
    cuda = device.Cuda(order.device)
    return (cuda.target(),), cuda.model()


def build_missing(
    bundle: Bundle, backend: Backend, order: Order, folder: Path, say: Say, force: bool = False
) -> Iterator[tuple[Sidecar, bool]]:
    """Build what the folder does not have; yields each engine's sidecar, and whether it was built now."""
    plans = resolve_order(bundle, backend, order)
    folder.mkdir(parents=True, exist_ok=True)
    cache = None if backend.targets() else folder / TIMING_CACHE
    clock = _Clock(backend, bundle, len(order.profiles))
    for number, wanted in enumerate(plans, 1):
        source = wanted.source
        path = sidecar.plan_path(folder, source.graph, source.precision)
        label = f"{number}/{len(plans)} {source.graph} {source.precision}"
        found = None if force else _same(path, wanted)
        fresh = found is None
        if found:
            say(f"{label}: is there already")
        else:
            say(f"{label}: about {clock.expected([wanted]):.0f} s, {clock.expected(plans[number - 1 :]):.0f} s for all")
            with _builder(backend, order):
                blob, found = build.build(bundle, backend, wanted, order.profiles, cache)
            sidecar.store(path, blob, found)
            clock.took(found)
            say(f"{label}: {len(blob) / 1e6:.1f} MB in {found.seconds:.1f} s, products {shares(found.products)}")
        if found.warning:
            say(f"{label}: warning: {found.warning}.")
        yield found, fresh


def _builder(backend: Backend, order: Order) -> AbstractContextManager[None]:
    """Use the GPU that builds, if one does."""
    return nullcontext() if backend.targets() else device.Cuda(order.device).selected()


def _same(path: Path, wanted: Sidecar) -> Sidecar | None:
    """Return the sidecar of an existing engine that is complete and has the same identity, else None."""
    try:
        found = Sidecar.read(path)
        sidecar.read_checked_plan(path, found)
    except EngineError:
        return None
    return found if found.key == wanted.key else None


class _Clock:
    """Estimates how long engines will take, by their number of nodes, from how long the others took."""

    def __init__(self, backend: Backend, bundle: Bundle, profiles: int) -> None:
        self._bundle, self._first = bundle, _FIRST_GUESS[backend.name] * profiles
        self._seconds, self._nodes = 0.0, 0

    def took(self, built: Sidecar) -> None:
        self._seconds += built.seconds
        self._nodes += self._size(built)

    def expected(self, plans: Iterable[Sidecar]) -> float:
        rate = self._seconds / self._nodes if self._nodes else self._first
        return max(1.0, rate * sum(map(self._size, plans)))

    def _size(self, plan: Sidecar) -> int:
        variants = self._bundle.manifest["graphs"][plan.source.graph]["precisions"]
        return int(variants[plan.source.precision].get("nodes", 100))


def table(engines: Iterable[Sidecar]) -> str:
    """Return a table, one row for each engine: size, time to build, shares of its products."""
    kinds = ("int8", "fp16", "tf32", "fp32", UNKNOWN)
    lines = [f"{'engine':10}{'precision':>10}{'MB':>8}{'build s':>9}" + "".join(f"{kind:>9}" for kind in kinds)]
    for made in engines:
        cells = "".join(f"{share(made.products, kind):>9.0%}" for kind in kinds)
        source = made.source
        lines.append(f"{source.graph:10}{source.precision:>10}{made.plan_bytes / 1e6:>8.1f}{made.seconds:>9.1f}{cells}")
    return "\n".join(lines)
