"""The measurements of ``uigc doctor --tune`` on this machine: ``cli/autotune.py`` writes them, the codec reads them."""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import platform
from collections.abc import Callable, Sequence
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


LOG = logging.getLogger("uigc")


def _versions() -> dict[str, str | None]:
    return {package: package_version(package) for package in PACKAGES}


def _path(kind: str, bundle: Bundle, *more: Any) -> Path:
    """Return the file for this machine, this bundle and what else tells measurements apart; any other has its own."""
    subject = [platform.system(), platform.machine(), processor_name(), os.cpu_count(), *more, bundle.manifest]
    digest = hashlib.sha256(json.dumps(subject, sort_keys=True).encode()).hexdigest()
    return cache_folder() / f"{kind}-{digest[:24]}.json"


def _tuned(bundle: Bundle, provider: str) -> Path:
    return _path("tuned", bundle, provider, _versions())


def _read(kind: str, path: Callable[[], Path]) -> dict[str, Any]:
    """Return what the file holds; nothing if there is none, if it cannot be read, or if :data:`IGNORE` says so."""
    if os.environ.get(IGNORE) == "0":
        return {}
    try:
        if next(cache_folder().glob(f"{kind}-*.json"), None) is None:
            return {}  # without looking up the versions of packages for the name of a file
        found = json.loads(path().read_text(encoding="utf-8"))
    except (OSError, RuntimeError, ValueError):  # RuntimeError: no home folder
        return {}
    return found if isinstance(found, dict) else {}


def _write(path: Callable[[], Path], measured: dict[str, Any] | None) -> None:
    try:
        file = path()
        file.parent.mkdir(parents=True, exist_ok=True)
        if measured is not None:
            text = json.dumps(measured, indent=1) + "\n"
            replace_file(file, lambda part: part.write_text(text, encoding="utf-8"))
        elif not os.access(file.parent, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(file.parent))
    except (OSError, RuntimeError) as error:  # RuntimeError: no home folder
        raise OutputError(
            f"The cache of measurements cannot be written ({error}); check the folder, or name one by XDG_CACHE_HOME."
        ) from None


def read(bundle: Bundle, provider: str) -> dict[str, Any]:
    """Return the measurements: ``precision`` and ``milliseconds``, and perhaps the same of the pixel networks.

    Empty if nothing was measured, if it cannot be read, or if :data:`IGNORE` says so.
    """
    return _read("tuned", lambda: _tuned(bundle, provider))


def write(bundle: Bundle, provider: str, measured: dict[str, Any] | None) -> None:
    """Store measurements; see :func:`read`. None stores nothing, and finds out before the work whether it can be done.

    Raises an :class:`OutputError` if the cache cannot be written.
    """
    _write(lambda: _tuned(bundle, provider), measured)


def read_provider(bundle: Bundle) -> dict[str, Any]:
    """Return which ``provider`` decodes fastest, and the ``milliseconds`` of each that was measured.

    Empty as :func:`read`, and if one of :data:`PACKAGES` is another since, of which the logger ``uigc`` warns: the
    provider may be gone, or the slower one by now.
    """
    found = _read("provider", lambda: _path("provider", bundle))
    if not isinstance(found.get("provider"), str) or not isinstance(found.get("milliseconds"), dict):
        return {}
    if found.get("versions") != _versions():
        LOG.warning(
            "packages have changed since 'uigc doctor --tune' chose the provider %s, which is not used before another "
            "measurement: run that command again, or name one by --provider",
            found["provider"],
        )
        return {}
    return found


def write_provider(bundle: Bundle, provider: str, milliseconds: dict[str, float]) -> None:
    """Store which provider decodes fastest; see :func:`read_provider`, and :func:`write` for its errors."""
    measured = {"provider": provider, "milliseconds": milliseconds, "versions": _versions()}
    _write(lambda: _path("provider", bundle), measured)


def preferred(bundle: Bundle, provider: str, key: str, offered: Sequence[str], names: Sequence[str]) -> list[str]:
    """Return the precisions that a provider offers for the graphs ``names``, the fastest measured one first."""
    measured = read(bundle, provider).get(key)
    if isinstance(measured, str) and all(measured in bundle.precisions(name) for name in names):
        return [measured, *offered]
    return list(offered)
