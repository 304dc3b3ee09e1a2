"""docs/API.md is what the docstrings say now."""

from __future__ import annotations

import subprocess
import sys

import uigc
from tests.support.paths import ROOT


def test_the_page_is_what_the_script_makes() -> None:
    code = "import sys; sys.path.insert(0, 'docs'); import api; sys.stdout.write(api.page())"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert (ROOT / "docs" / "API.md").read_text(encoding="utf-8") == done.stdout, "run: python docs/api.py"


def test_every_public_name_is_on_it() -> None:
    page = (ROOT / "docs" / "API.md").read_text(encoding="utf-8")
    assert all(name in page for name in uigc.__all__)
