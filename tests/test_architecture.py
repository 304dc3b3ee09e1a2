"""The arrows between the folders, and what importing them loads."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.paths import ROOT

# What each folder may import of the others; DESIGN: everything stands on the runtime, which knows nobody above.
ARROWS = {
    "runtime": set(),
    "export": {"runtime"},
    "bench": {"runtime", "export", "engines"},
    "calibration": {"runtime", "bench.metrics", "export.editor"},
    "engines": {"runtime"},
    "training": {"runtime", "bench.metrics", "export.modules"},
}
RUNTIME_PACKAGES = {"numpy", "constriction", "PIL", "onnxruntime"}


def imports(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("folder", ARROWS)
def test_arrows(folder: str) -> None:
    for path in (ROOT / folder).rglob("*.py"):
        for name in imports(path):
            if name.startswith("uigc.") and not name.startswith(f"uigc.{folder}"):
                target = name.removeprefix("uigc.")
                allowed = any(f"{target}.".startswith(f"{arrow}.") for arrow in ARROWS[folder])
                assert allowed, f"{path.relative_to(ROOT)} imports {name}"


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
        for path in (ROOT / folder).rglob("*.py"):
            assert len(path.read_text(encoding="utf-8").splitlines()) <= 300, f"{path.name} has more than one job"
