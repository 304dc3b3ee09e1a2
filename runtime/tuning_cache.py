"""The measurements of ``uigc doctor --tune`` on this machine: ``cli/autotune.py`` writes them, the codec reads them."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from uigc.runtime.bundle import Bundle
from uigc.runtime.environment import cache_folder, package_version, processor_name
from uigc.runtime.errors import OutputError
from uigc.runtime.io.atomic import replace as replace_file

IGNORE = "UIGC_TUNED"
"""Environment variable: with the value 0, measurements are ignored."""
PACKAGES = (
    "onnxruntime",
    "onnxruntime-gpu",
    "openvino",
    "tensorrt-cu13",
    "tensorrt-rtx-cu13",
)  # their versions change times


def _path(bundle: Bundle, provider: str) -> Path:
    """Return the file for this machine, these packages, this provider and this bundle; any other has its own."""
    subject = [
        platform.system(), platform.machine(), processor_name(), os.cpu_count(), provider,
        [package_version(package) for package in PACKAGES], bundle.manifest,
    ]  # fmt: skip
    digest = hashlib.sha256(json.dumps(subject, sort_keys=True).encode()).hexdigest()
    return cache_folder() / f"tuned-{digest[:24]}.json"


def read(bundle: Bundle, provider: str) -> dict[str, Any]:
    """Return the measurements: ``precision`` and ``milliseconds``, and perhaps the same of the pixel networks.

    Empty if nothing was measured, if it cannot be read, or if :data:`IGNORE` says so.
    """
    if os.environ.get(IGNORE) == "0":
        return {}
    try:
        found = json.loads(_path(bundle, provider).read_text(encoding="utf-8"))
    except (OSError, RuntimeError, ValueError):  # RuntimeError: no home folder
        return {}
    return found if isinstance(found, dict) else {}


def write(bundle: Bundle, provider: str, measured: dict[str, Any] | None) -> None:
    """Store measurements; see :func:`read`. None stores nothing, and finds out before the work whether it can be done.

    Raises an :class:`OutputError` if the cache cannot be written.
    """
    try:
        path = _path(bundle, provider)
        path.parent.mkdir(parents=True, exist_ok=True)
        if measured is not None:
            text = json.dumps(measured, indent=1) + "\n"
            replace_file(path, lambda part: part.write_text(text, encoding="utf-8"))
        elif not os.access(path.parent, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path.parent))
    except (OSError, RuntimeError) as error:  # RuntimeError: no home folder
        raise OutputError(
            f"The cache of measurements cannot be written ({error}); check the folder, or name one by XDG_CACHE_HOME."
        ) from None


def preferred(bundle: Bundle, provider: str, key: str, offered: Sequence[str], names: Sequence[str]) -> list[str]:
    """Return the precisions that a provider offers for the graphs ``names``, the fastest measured one first."""
    measured = read(bundle, provider).get(key)
    if isinstance(measured, str) and all(measured in bundle.precisions(name) for name in names):
        return [measured, *offered]
    return list(offered)
