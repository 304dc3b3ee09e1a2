"""A folder of engines, as ``uigc build`` fills it."""

from __future__ import annotations

from pathlib import Path

from uigc.engines import backend, engine_set
from uigc.engines.profile import Profile
from uigc.runtime.bundle import Bundle

SIZE = "96x64"


def fill(
    folder: Path, bundle: Path, precision: str = "mixed", name: str = "tensorrt-rtx", **order: object
) -> list[bool]:
    """Build engines as ``uigc build`` does; which of them were new."""
    profiles = Profile.parse(str(order.pop("size", SIZE)), int(str(order.pop("batch", 1))))
    wanted = engine_set.Order(precision, (profiles,), **order)  # type: ignore[arg-type]
    return [
        fresh
        for _, fresh in engine_set.build_missing(
            Bundle.load(bundle), backend.find(name), wanted, folder, lambda text: None
        )
    ]
