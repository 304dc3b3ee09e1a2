"""What is installed, which providers would run, and whether the bundle is whole."""

from __future__ import annotations

import json
import platform
from importlib.metadata import PackageNotFoundError, entry_points, version
from pathlib import Path
from typing import Any

from uigc.runtime import providers
from uigc.runtime.bundle import Bundle
from uigc.runtime.cli import package_version
from uigc.runtime.errors import ProviderError, UigcError
from uigc.runtime.providers import Provider, ProviderOptions

PACKAGES = (
    "numpy", "constriction", "pillow", "onnxruntime", "onnxruntime-gpu", "torch", "onnx", "onnxscript",
    "safetensors", "tensorrt-cu13", "tensorrt-rtx-cu13", "cuda-bindings",
)  # fmt: skip


def installed(package: str) -> str | None:
    """Version of a package, None if it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _providers(bundle: Bundle | None) -> dict[str, str]:
    """Each provider's name and "runs", or why it does not; with a bundle, a graph is loaded to see."""
    states = {}
    for entry in sorted(entry_points(group=providers.GROUP), key=lambda entry: entry.name):
        try:
            provider: Provider = entry.load()
            states[entry.name] = provider.problem() or "runs"
            if states[entry.name] == "runs" and bundle:
                provider.load(bundle.graph("stage0"), ProviderOptions())
        except (ImportError, UigcError) as error:
            states[entry.name] = f"cannot be loaded: {error}"
    return states


def examine(bundle_path: Path | str | None) -> tuple[dict[str, Any], UigcError | None]:
    """All findings, and the first one that keeps the codec from working."""
    findings: dict[str, Any] = {
        "uigc": package_version(),
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "packages": {name: installed(name) for name in PACKAGES},
    }
    problem: UigcError | None = None
    bundle: Bundle | None = None
    try:
        bundle = Bundle.load(bundle_path)
        findings["bundle"] = {
            "path": str(bundle.path),
            "prior": bundle.prior_id.hex(),
            "codebook": bundle.codebook,
            "stages": len(bundle.schedule),
            "megabytes": round(sum(file.stat().st_size for file in bundle.path.iterdir()) / 1e6, 1),
            "state": "whole",
        }
    except UigcError as error:
        findings["bundle"] = {"state": str(error)}
        problem = error
    findings["providers"] = _providers(bundle)
    if "runs" not in findings["providers"].values():
        problem = ProviderError("No provider can run here; install one with: pip install 'uigc[cpu]'.")
    return findings, problem


def report(bundle_path: Path | str | None, as_json: bool) -> None:
    """Print the findings; raises the problem, if there is one, after printing."""
    findings, problem = examine(bundle_path)
    if as_json:
        print(json.dumps(findings, indent=1))
    else:
        for section, value in findings.items():
            if isinstance(value, dict):
                print(f"{section}:")
                for name, state in value.items():
                    print(f"  {name:20}{'not installed' if state is None else state}")
            else:
                print(f"{section:22}{value}")
    if problem:
        raise problem
