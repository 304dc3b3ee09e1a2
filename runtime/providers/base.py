"""Providers run graphs. They are found as entry points, so packages above the runtime, or third parties, bring more.

A provider is asked for by name and either runs or says why not: there is no fallback to another one.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

from uigc.runtime.errors import ProviderError, UsageError

GROUP = "uigc.providers"
DEFAULT = "cpu"


OPTIMIZATIONS = ("all", "extended", "basic", "off")


@dataclass(frozen=True)
class ProviderOptions:
    """``threads`` per graph (None: the provider's choice); ``optimization``: how far the provider may rewrite graphs,
    one of ``OPTIMIZATIONS``."""

    threads: int | None = None
    optimization: str = "all"


class Graph(Protocol):
    """A loaded graph with one input and one output.

    One that returns before its device is done has a method ``synchronize`` too, which waits for it: times are taken
    after that. Copies to and from a device are spans named ``copy in`` and ``copy out`` (:mod:`uigc.runtime.spans`).
    """

    def __call__(self, value: NDArray[Any]) -> NDArray[Any]: ...


class Provider(Protocol):
    """What an entry point of the group ``uigc.providers`` names: an object with these members.

    One that runs engines, which were built beforehand, has a method ``with_engines(folder)`` too, which gives the same
    provider with the engines of that folder.
    """

    name: str
    extra: str
    precisions: tuple[str, ...]
    """Precisions of the prior in which it runs well, best first; all of them give the same logits."""
    pixel_precisions: tuple[str, ...]
    """Precisions of encoder and pixel decoder that it takes unasked, best first: the first that a bundle has."""
    verified: tuple[str, ...]
    """Precisions of the prior that ``uigc verify`` tries: all that it can run."""
    settings: tuple[ProviderOptions, ...]
    """Options under which ``uigc verify`` tries it."""

    def problem(self) -> str | None:
        """None if it can run here, else one sentence that says why not and what to do."""

    def load(self, path: Path, options: ProviderOptions) -> Graph:
        """Load the ONNX file ``path``."""


def names() -> list[str]:
    return sorted(entry.name for entry in entry_points(group=GROUP))


def available(engines: Path | None = None) -> list[Provider]:
    """All that can run here; those that run engines get the ones of that folder."""
    found: list[Provider] = []
    for name in names():
        try:
            found.append(find(name, engines if takes_engines(name) else None))
        except (ImportError, ProviderError):
            continue
    return found


def takes_engines(name: str) -> bool:
    """Whether the provider of that name runs engines of a folder, rather than graphs of a bundle."""
    return any(hasattr(entry.load(), "with_engines") for entry in entry_points(group=GROUP) if entry.name == name)


def find(name: str, engines: Path | None = None) -> Provider:
    """The provider of that name, able to run here; ``engines``: their folder, for one that runs engines."""
    matches = [entry for entry in entry_points(group=GROUP) if entry.name == name]
    if not matches:
        raise ProviderError(f"There is no provider {name!r}; choose one of: {', '.join(names()) or 'none installed'}.")
    provider: Provider = matches[0].load()
    if engines is not None:
        if not takes_engines(name):
            raise UsageError(f"The provider {name!r} runs no engines; leave out the folder, or ask for one that does.")
        provider = matches[0].load().with_engines(engines)
    problem = provider.problem()
    if problem:
        raise ProviderError(problem)
    return provider


def select(names: list[str] | None, engines: Path | None = None) -> list[Provider]:
    """Return the providers of these names, or all that can run here; ``engines``: see :func:`find`."""
    if names:
        return [find(name, engines if takes_engines(name) else None) for name in names]
    return available(engines)
