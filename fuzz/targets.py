"""All targets by name."""

from __future__ import annotations

from uigc.fuzz import files
from uigc.fuzz.target import Target

TARGETS: dict[str, Target] = {target.name: target for target in (files.HEADER, files.FILE)}
