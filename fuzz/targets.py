"""All targets by name."""

from __future__ import annotations

from uigc.fuzz import bundles, coding, files, pictures
from uigc.fuzz.target import Target

_ALL = (
    files.HEADER, files.FILE, coding.MASK, coding.TOKENS, coding.TEXT, bundles.MANIFESTS, bundles.WEIGHT_FILES,
    pictures.PICTURES,
)  # fmt: skip
TARGETS: dict[str, Target] = {target.name: target for target in _ALL}
