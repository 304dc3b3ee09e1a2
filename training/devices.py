"""The device that a recipe computes on, by the name that the user gives it."""

from __future__ import annotations

import torch

from uigc.runtime.errors import UsageError


def default() -> str:
    """Return the name of a GPU if there is one, otherwise of the CPU."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def device(name: str) -> torch.device:
    """Return a device that computes; raises a :class:`UsageError` if there is none of that name."""
    try:
        found = torch.device(name)
        torch.zeros(1, device=found)
    except (AssertionError, RuntimeError):  # the first one where PyTorch was built without CUDA
        raise UsageError(f"There is no device {name!r} here; give cpu, or cuda where there is a GPU.") from None
    return found
