"""The arrows between the folders, and what importing them loads."""

from __future__ import annotations

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from tests.support.paths import ROOT
from uigc.runtime.entry_points import installed
from uigc.runtime.providers import GROUP, Provider

# What each folder may import of the others; DESIGN: everything stands on the runtime, which knows nobody above.
ARROWS = {
    "api": {"runtime"},
    "runtime": set(),
    "export": {"runtime"},
    "bench": {"runtime", "export", "engines"},
    "calibration": {"runtime", "bench.metrics", "export.editor"},
    "engines": {"runtime"},
    "fuzz": {"runtime", "bench.result"},
    "training": {"runtime", "bench.flat_fields", "bench.metrics", "export.modules"},
}
# What each room of runtime/ may import of the others, from the ground up (docs/ARCHITECTURE.md draws it).
ROOMS: dict[str, set[str]] = {
    "errors": set(),
    "arrays": set(),
    "spans": set(),
    "progress": set(),
    "environment": set(),
    "entry_points": set(),
    "outcomes": {"errors"},
    "io": {"arrays", "errors"},
    "format": {"arrays", "errors", "spans"},
    "limits": {"format"},
    "batching": {"errors", "outcomes"},
    "bundle": {"errors", "format"},
    "providers": {"bundle", "entry_points", "environment", "errors", "format", "io", "spans"},
    "tuning_cache": {"bundle", "environment", "errors", "io"},
    "exactness": {"arrays", "bundle", "environment", "errors", "format", "progress", "providers"},
    "networks": {"arrays", "errors", "format", "outcomes", "progress", "providers", "spans"},
    "block_search": {"arrays", "format", "networks", "progress"},
    "token_codec": {
        "arrays", "block_search", "bundle", "errors", "format", "limits", "networks", "outcomes", "progress",
        "providers", "spans",
    },
    "rate_control": {
        "arrays", "block_search", "errors", "format", "networks", "outcomes", "progress", "spans", "token_codec",
    },
    "codec": {
        "arrays", "batching", "bundle", "errors", "format", "io", "limits", "networks", "outcomes", "progress",
        "providers", "rate_control", "spans", "token_codec", "tuning_cache",
    },
    "shared_codec": {"bundle", "codec", "errors"},
    "progressive": {"arrays", "codec", "errors", "format", "io", "networks", "shared_codec", "token_codec"},
    "shortcuts": {"arrays", "format", "io", "shared_codec"},
    "conformance": {
        "arrays", "bundle", "errors", "exactness", "format", "io", "outcomes", "progress", "token_codec",
    },
    "cli": {
        "arrays", "batching", "bundle", "codec", "conformance", "entry_points", "environment", "errors", "exactness",
        "format", "io", "networks", "outcomes", "progress", "progressive", "providers", "rate_control", "tuning_cache",
    },
}  # fmt: skip
RUNTIME_PACKAGES = {"numpy", "constriction", "PIL", "onnxruntime", "openvino", "argcomplete"}
LONGEST_FILE, LONGEST_FUNCTION = 300, 40  # lines


def files(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def imports(path: Path) -> set[str]:
    """Everything that a file imports, inside functions too, as full names."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(("uigc", *parts[1 if parts[0] == "api" else 0 :])).removesuffix(".__init__")


@pytest.mark.parametrize("folder", ARROWS)
def test_arrows(folder: str) -> None:
    for path in files(folder):
        for name in imports(path):
            if name.startswith("uigc.") and not name.startswith(f"uigc.{folder}"):
                target = name.removeprefix("uigc.")
                allowed = any(f"{target}.".startswith(f"{arrow}.") for arrow in ARROWS[folder])
                assert allowed, f"{path.relative_to(ROOT)} imports {name}"


def room_of(name: str) -> str | None:
    """The room of runtime/ that a full name lies in, None for anything else."""
    parts = name.split(".")
    return parts[2] if parts[:2] == ["uigc", "runtime"] and len(parts) > 2 else None


def test_arrows_between_the_rooms_of_the_runtime() -> None:
    drawn: dict[str, set[str]] = {room: set() for room in ROOMS}
    for path in files("runtime"):
        here = room_of(module_name(path))
        if here is not None:
            drawn[here] |= {room for name in imports(path) if (room := room_of(name)) not in (None, here)}
    assert drawn == ROOMS  # equal, so that an arrow that nobody needs any more is taken out of the table


def test_rooms_stand_on_rooms_below() -> None:
    below: set[str] = set()
    for room, arrows in ROOMS.items():
        assert arrows <= below, f"{room} imports {arrows - below}, which the table lists above it"
        below.add(room)


def test_no_files_import_each_other_in_a_ring() -> None:
    paths = {module_name(path): path for folder in ARROWS for path in files(folder)}
    graph = {name: (imports(path) & set(paths)) - {name} for name, path in paths.items()}
    for name in graph:  # importing a module also imports the packages that it lies in, but that makes no ring
        graph[name] -= {".".join(name.split(".")[:length]) for length in range(1, name.count(".") + 1)}
    TopologicalSorter(graph).prepare()  # raises CycleError, with the ring


def test_runtime_imports_only_its_packages() -> None:
    for path in (ROOT / "runtime").rglob("*.py"):
        tops = {name.split(".")[0] for name in imports(path)} - set(sys.stdlib_module_names) - {"uigc"}
        assert tops <= RUNTIME_PACKAGES, f"{path.name} imports {tops - RUNTIME_PACKAGES}"


def loaded_by(code: str) -> set[str]:
    script = f"{code}\nimport sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return {name.split(".")[0] for name in done.stdout.splitlines()[-1].split()}


def test_importing_the_runtime_loads_no_torch_and_no_onnxruntime() -> None:
    loaded = loaded_by("import uigc; uigc.Codec; uigc.Bundle")
    assert not loaded & {"torch", "onnxruntime", "onnx"}


def test_help_loads_nothing_heavy() -> None:
    loaded = loaded_by("from uigc.runtime.cli.main import build_parser; build_parser().format_help()")
    assert not loaded & {"torch", "onnxruntime", "onnx", "numpy", "PIL", "constriction"}


def test_files_stay_small() -> None:
    for folder in (*ARROWS, "tests"):
        for path in files(folder):
            length = len(path.read_text(encoding="utf-8").splitlines())
            assert length <= LONGEST_FILE, f"{path.name} has {length} lines, and so more than one job"


def test_functions_stay_small() -> None:
    for folder in ARROWS:
        for path in files(folder):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                    length = (node.end_lineno or 0) - node.lineno + 1
                    assert length <= LONGEST_FUNCTION, f"{path.name}: {node.name} has {length} lines"


def test_every_provider_stands_on_the_base_class() -> None:
    """Nothing about a provider is guessed: what it does not define has the default of the base class."""
    found = {entry.name: entry.load() for entry in installed(GROUP).values()}
    assert {"cpu", "cuda", "cuda-graphs", "openvino", "tensorrt", "tensorrt-rtx"} <= set(found)
    for name, provider in found.items():
        assert isinstance(provider, Provider)
        assert provider.name == name


def test_libraries_are_imported_in_one_place() -> None:
    """Where their telemetry is switched off before."""
    for folder in ARROWS:
        for path in files(folder):
            if path.name != "library.py":
                assert not {"onnxruntime", "openvino"} & imports(path), path
