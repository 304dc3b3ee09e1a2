"""Commands, providers and checks, found as entry points; the runtime's own are found without them, too.

A package that is copied, frozen or vendored has no metadata, and so no entry points: it still has what the runtime
itself brings.
"""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points

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


def installed(group: str) -> dict[str, EntryPoint]:
    """Return the entry points of a group by name: those of all installed packages, and the runtime's own."""
    own = {name: EntryPoint(name, value, group) for name, value in OWN.get(group, {}).items()}
    return own | {entry.name: entry for entry in entry_points(group=group)}
