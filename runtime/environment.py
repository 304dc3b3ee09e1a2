"""The machine and the installed packages, as reports and caches describe them."""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from functools import cache
from pathlib import Path

PACKAGES = (
    "numpy", "constriction", "pillow", "onnxruntime", "onnxruntime-gpu", "openvino", "torch", "onnx", "onnxscript",
    "safetensors", "tensorrt-cu13", "tensorrt-rtx-cu13", "cuda-bindings",
)  # fmt: skip
"""The packages whose versions reports list."""

CUDA_DRIVER = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
"""The library of NVIDIA's driver."""


@cache  # each search reads folders of all packages
def package_version(package: str) -> str | None:
    """Return the version of an installed package, None if it is not installed."""
    from importlib.metadata import PackageNotFoundError, version  # which takes as long as reading a manifest

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


@cache
def _processor() -> dict[str, str]:
    """Return what Linux tells of the first processor, by its words for it; nothing on other systems."""
    try:
        told = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}
    lines = (line.partition(":") for line in told.partition("\n\n")[0].splitlines())
    return {word.strip(): text.strip() for word, _, text in lines}


def processor_name() -> str:
    """Return the model name of the processor; empty if the system does not tell it."""
    return _processor().get("model name", "") if _processor() else platform.processor()


def processor_flags() -> str:
    """Return the instruction sets of the processor in Linux's words; empty where the system does not tell them."""
    told = _processor()
    return told.get("flags") or told.get("Features", "")  # of x86 and of ARM


def cache_folder() -> Path:
    """Return the folder for caches on this platform."""
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local")) / "uigc" / "Cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "uigc"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "uigc"


@cache
def _cuda_process() -> int:
    """Return the process that was the first to ask for this, and so to use CUDA; those that are forked inherit it."""
    return os.getpid()


def cuda_works() -> bool:
    """Say that this process is about to use CUDA; False if it was forked from one that has, where CUDA cannot work."""
    return _cuda_process() == os.getpid()


def gpu_names() -> tuple[str, ...]:
    """Return the model names of the NVIDIA GPUs in the order of CUDA, as its driver tells them; none without a driver.

    The driver cannot be used in a process that is forked afterwards, so ask only where a GPU is to be used anyway.
    """
    try:
        return _gpu_names()
    except OSError:
        return ()


@cache  # which remembers no exceptions: a driver that starts late is found
def _gpu_names() -> tuple[str, ...]:
    driver = ctypes.CDLL(CUDA_DRIVER)
    if not cuda_works():
        raise OSError("CUDA was used before this process was forked")
    count, device, name = ctypes.c_int(), ctypes.c_int(), ctypes.create_string_buffer(256)
    if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)):
        raise OSError("the driver does not start")
    names = []
    for index in range(count.value):
        known = not driver.cuDeviceGet(ctypes.byref(device), index)
        known = known and not driver.cuDeviceGetName(name, len(name), device)
        names.append(name.value.decode(errors="replace") if known else "")
    return tuple(names)
