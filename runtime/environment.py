"""The machine and the installed packages, as reports and caches describe them."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = (
    "numpy", "constriction", "pillow", "onnxruntime", "onnxruntime-gpu", "torch", "onnx", "onnxscript",
    "safetensors", "tensorrt-cu13", "tensorrt-rtx-cu13", "cuda-bindings",
)  # fmt: skip
"""The packages whose versions reports list."""


def package_version(package: str) -> str | None:
    """Return the version of an installed package, None if it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def package_versions() -> dict[str, str | None]:
    """Return the versions of Python and :data:`PACKAGES`, None for packages that are not installed."""
    return {"python": platform.python_version()} | {name: package_version(name) for name in PACKAGES}


def machine_name() -> str:
    """Return the operating system and the processor architecture, such as ``Linux x86_64``."""
    return f"{platform.system()} {platform.machine()}"


def processor_name() -> str:
    """Return the model name of the processor; empty if the system does not tell it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
