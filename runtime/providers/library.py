"""The one place that imports ONNX Runtime."""

from __future__ import annotations

import os
from typing import Any


def import_onnxruntime() -> Any:
    """Import ``onnxruntime`` with its telemetry off, and return the module.

    From 1.29 on, official wheels write a device identifier and a queue of events into the user's cache and look up a
    collector, unless this environment variable is set before the import. A user who wants telemetry sets it to 0.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    return onnxruntime
