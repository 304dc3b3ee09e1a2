"""Commands, providers and checks, found as entry points; the runtime's own are found without them, too.

A package that is copied, frozen or vendored has no metadata, and so no entry points: it still has what the runtime
itself brings.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any, NamedTuple, Protocol

_COMMANDS = "uigc.runtime.cli.commands"
_PROVIDERS = "uigc.runtime.providers"
OWN = {
    "uigc.commands": {
        name: f"{_COMMANDS}:{name}"
        for name in ("compress", "decompress", "info", "doctor", "verify", "conformance", "demo")
    },
    "uigc.providers": {
        "cpu": f"{_PROVIDERS}.onnx_runtime:CPU",
        "cuda": f"{_PROVIDERS}.onnx_runtime:CUDA",
        "cuda-graphs": f"{_PROVIDERS}.onnx_runtime:CUDA_GRAPHS",
        "openvino": f"{_PROVIDERS}.openvino:OPENVINO",
    },
}
"""The runtime's own entry points by group and name, as ``pyproject.toml`` states them; a test compares the two."""


class EntryPoint(Protocol):
    """An entry point: its name, and how to import what it stands for."""

    @property
    def name(self) -> str: ...

    def load(self) -> Any: ...


class _Own(NamedTuple):
    """An entry point of the runtime itself: a name, a module, and an attribute of it."""

    name: str
    module: str
    attribute: str

    def load(self) -> Any:
        return getattr(import_module(self.module), self.attribute)


def _own(group: str) -> dict[str, EntryPoint]:
    return {name: _Own(name, *value.split(":")) for name, value in OWN.get(group, {}).items()}


def installed(group: str) -> dict[str, EntryPoint]:
    """Return the entry points of a group by name: those of all installed packages, and the runtime's own.

    A package that uses one of the runtime's names does not replace what the name stands for.
    """
    # Imported here, because the import alone takes as long as reading a bundle's manifest.
    from importlib.metadata import entry_points

    return {each.name: each for each in entry_points(group=group)} | _own(group)


def named(group: str, name: str) -> EntryPoint | None:
    """Return the entry point of that name, None if there is none.

    For the runtime's own nothing is searched: that would read the metadata of every installed package.
    """
    return _own(group).get(name) or installed(group).get(name)
