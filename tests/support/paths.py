"""Folders of the checkout, and of images that are not part of it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
SHARED = Path(os.environ.get("UIGC_TEST_PICTURES", ROOT.parent / "shared"))


def outside(part: str) -> Path:
    """A folder of images that are not part of the project; skips the test where it is absent."""
    path = SHARED / part
    if not path.exists():
        pytest.skip(f"the images in {part} are not part of the project; UIGC_TEST_PICTURES names their folder")
    return path
