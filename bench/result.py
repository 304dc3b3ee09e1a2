"""The part of every result file that describes its machine, and the writing of result files."""

from __future__ import annotations

import json
import sys
from datetime import date
from pathlib import Path
from typing import Any

from uigc.runtime.environment import machine_name, package_versions, processor_name


def _device() -> str | None:
    """Return the name of the GPU that PyTorch sees, None without either."""
    try:
        import torch
    except ImportError:
        return None
    return torch.cuda.get_device_name() if torch.cuda.is_available() else None


def machine() -> dict[str, Any]:
    """Return date, command, system, processor, device and versions."""
    spec = sys.modules["__main__"].__spec__
    called = f"python -m {spec.name}" if spec else Path(sys.argv[0]).name
    return {
        "date": date.today().isoformat(),
        "command": " ".join([called, *sys.argv[1:]]),
        "machine": machine_name(),
        "processor": processor_name(),
        "device": _device(),
        "versions": package_versions(),
    }


def write(path: Path, result: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
