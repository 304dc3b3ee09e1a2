"""The contract between the codec and what runs its graphs, and the search for providers.

Providers are entry points, so packages above the runtime and third parties bring more. A provider is asked for by name
and either runs or says why not: nothing ever falls back to another one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from uigc.runtime.bundle.manifest import PRECISIONS
from uigc.runtime.entry_points import installed, named
from uigc.runtime.environment import gpu_names
from uigc.runtime.errors import ProviderError, UsageError
from uigc.runtime.spans import Timed

GROUP = "uigc.providers"
"""The group of entry points; each names a :class:`Provider` instance."""
DEFAULT = "cpu"
OPTIMIZATIONS = ("all", "extended", "basic", "off")
"""How far a provider may rewrite graphs, from everything to nothing."""


@dataclass(frozen=True)
class ProviderOptions:
    """Options for loading a graph.

    ``threads``: threads of each graph, None for the provider's choice.
    ``optimization``: how far the provider may rewrite the graph, one of :data:`OPTIMIZATIONS`.
    ``device``: which of several GPUs runs it, from 0 on, in the order of CUDA.
    ``ahead``: compile all kernels before the first run, where a provider would compile the best ones in the background.
    """

    threads: int | None = None
    optimization: str = "all"
    device: int = 0
    ahead: bool = False


class Graph(Timed, ABC):
    """A loaded graph with one input and one output.

    A graph whose call returns before its device has finished overrides ``synchronize``; one that can measure its device
    overrides ``timer`` (see :class:`uigc.runtime.spans.Timed`). Copies to and from a device are reported as spans named
    ``copy in`` and ``copy out``.
    """

    @abstractmethod
    def __call__(self, value: NDArray[Any]) -> NDArray[Any]:
        """Run the graph on an array of the host and return a new array of the host, which belongs to the caller."""

    def close(self) -> None:
        """Free what the graph holds; it is not called again. By default Python's collector does it."""


class Provider(ABC):
    """One way to run graphs; subclass it and name an instance as an entry point of the group ``uigc.providers``.

    Only ``name``, :meth:`problem` and :meth:`load` are required. ``docs/PROVIDERS.md`` has an example.
    """

    name: str
    """The name that users ask for."""

    @property
    def extra(self) -> str:
        """The extra of uigc that installs the provider; empty if it is not one of uigc's own."""
        return ""

    @property
    def precisions(self) -> tuple[str, ...]:
        """Precisions of the prior in which it runs well, best first; all of them give the same logits."""
        return ("fp32",)

    @property
    def pixel_precisions(self) -> tuple[str, ...]:
        """Precisions of encoder and pixel decoder that it takes by default: the first of them that a bundle has."""
        return ("fp32",)

    @property
    def verified(self) -> tuple[str, ...]:
        """Precisions of the prior that ``uigc verify`` tries: all that it can run."""
        return PRECISIONS

    @property
    def settings(self) -> tuple[ProviderOptions, ...]:
        """Options under which ``uigc verify`` tries it."""
        return (ProviderOptions(),)

    @property
    def batch(self) -> int:
        """The number of images of one size that it takes at a time, where the caller does not say."""
        return 1

    @property
    def on_gpu(self) -> bool:
        """True if it runs on an NVIDIA GPU, on the one of several that :attr:`ProviderOptions.device` names."""
        return False

    def measured_as(self, device: int) -> str:
        """Return the name under which measurements of it are kept: with the GPU's model, if it runs on one."""
        if not self.on_gpu:
            return self.name
        models = gpu_names()
        return f"{self.name} on {models[device] if device < len(models) else 'an unknown GPU'}"

    @property
    def takes_engines(self) -> bool:
        """True if it runs engines that were built into a folder beforehand, instead of the graphs of a bundle."""
        return False

    def with_engines(self, folder: Path) -> Provider:
        """Return the same provider, running the engines of ``folder``."""
        raise UsageError(f"The provider {self.name!r} runs no engines; leave out the folder, or ask for one that does.")

    @abstractmethod
    def problem(self) -> str | None:
        """Return None if it can run here, else one sentence that says why not and what to do."""

    @abstractmethod
    def load(self, path: Path, options: ProviderOptions) -> Graph:
        """Load the ONNX file ``path``; raises a :class:`ProviderError` if it cannot."""


def names() -> list[str]:
    """Return the names of all installed providers, whether they can run here or not."""
    return sorted(installed(GROUP))


def find(name: str, engines: Path | None = None) -> Provider:
    """Return the provider of that name, able to run here.

    ``engines``: folder with its engines, for a provider that runs engines. Raises a :class:`ProviderError` if there is
    no such provider or it cannot run here, and a :class:`UsageError` for engines that it does not take.
    """
    provider = loaded(name)
    if engines is not None:
        provider = provider.with_engines(engines)
    problem = provider.problem()
    if problem:
        raise ProviderError(problem)
    return provider


def check_device(provider: Provider, device: int) -> None:
    """Raise a :class:`UsageError` for what is no number of a device, and for a provider that runs on none."""
    if not isinstance(device, int) or device < 0:
        raise UsageError(f"device is {device!r}, and a whole number from 0 on is needed; give one, or leave it out.")
    if device and not provider.on_gpu:
        raise UsageError(
            f"The provider {provider.name!r} runs on no GPU, and device {device} was asked for; leave it out."
        )


def own_device(provider: Provider, device: int) -> int:
    """Return the device on which a provider runs if several are asked to run on ``device``: 0 if it is on no GPU."""
    return device if provider.on_gpu else 0


def takes_engines(name: str) -> bool:
    """Return True if the provider of that name runs engines of a folder."""
    return loaded(name).takes_engines


def available(engines: Path | None = None) -> list[Provider]:
    """Return all providers that can run here; those that run engines get the ones in the folder ``engines``."""
    found: list[Provider] = []
    for name in names():
        try:
            found.append(find(name, engines if takes_engines(name) else None))
        except (ImportError, ProviderError):  # the first one of a provider of others
            continue
    return found


def select(asked: list[str] | None, engines: Path | None = None) -> list[Provider]:
    """Return the providers of these names, or all that can run here; ``engines`` as in :func:`available`."""
    if asked:
        return [find(name, engines if takes_engines(name) else None) for name in asked]
    return available(engines)


def loaded(name: str) -> Provider:
    """Return the provider of that name, whether it can run here or not.

    Raises a :class:`ProviderError` if there is none, or if its package does not hold it as it says.
    """
    entry = named(GROUP, name)
    if entry is None:
        raise ProviderError(f"There is no provider {name!r}; choose one of: {', '.join(names())}.")
    try:
        provider = entry.load()
        if not isinstance(provider, Provider):
            raise ImportError(f"it is a {type(provider).__name__} and no Provider")
    except (AttributeError, ImportError) as error:
        raise ProviderError(f"The provider {name!r} cannot be loaded ({error}); reinstall its package.") from error
    return provider


def check_options(optimization: str, **counts: int | None) -> None:
    """Refuse options of a codec that no provider has: another optimization, and counts below 1."""
    if optimization not in OPTIMIZATIONS:
        raise UsageError(f"There is no optimization {optimization!r}; choose one of: {', '.join(OPTIMIZATIONS)}.")
    for name, value in counts.items():
        if value is not None and (not isinstance(value, int) or value < 1):
            raise UsageError(f"{name} is {value!r}, and a whole number from 1 on is needed; give one, or leave it out.")
