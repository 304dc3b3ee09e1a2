"""By what runs are told apart: their weights and their settings."""

from __future__ import annotations

import hashlib
import json

from torch import nn


def digest(module: nn.Module) -> str:
    """Return a hexadecimal hash of a module's weights."""
    made = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        made.update(name.encode())
        made.update(value.detach().cpu().contiguous().numpy().tobytes())
    return made.hexdigest()


def differences(theirs: str, ours: str) -> str:
    """Say by what the subjects of two runs differ."""
    one, other = json.loads(theirs), json.loads(ours)
    names = [name for name in sorted({*one, *other}) if one.get(name) != other.get(name)]
    return ", ".join(f"{name} {one.get(name)} there and {other.get(name)} here" for name in names)
