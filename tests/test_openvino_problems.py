"""The one sentence with which the provider ``openvino`` says why it cannot run."""

from __future__ import annotations

import importlib.util

import pytest

from uigc.runtime.providers import openvino
from uigc.runtime.providers.openvino import OPENVINO

pytest.importorskip("openvino", reason="openvino (uigc[openvino]) is not installed")


def test_what_is_missing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    assert OPENVINO.problem() is None
    library = openvino.import_openvino()
    monkeypatch.setattr(library, "__version__", "2025.4.1-1-releases/2025/4")
    assert "is 2025.4.1-1-releases/2025/4, and the provider 'openvino' needs 2026.2" in str(OPENVINO.problem())

    monkeypatch.undo()

    def fail() -> None:
        raise ImportError("libopenvino.so.2641: cannot\nopen")

    monkeypatch.setattr(openvino, "_core", fail)
    assert "cannot be imported (libopenvino.so.2641: cannot open)" in str(OPENVINO.problem())
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert "which is not installed; install it with: pip install 'uigc[openvino]'." in str(OPENVINO.problem())
