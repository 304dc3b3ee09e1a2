"""The wheel holds what a user needs and runs apart from the checkout; the suite itself runs on the editable install."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.support.paths import ROOT

BUNDLE_LIMIT = 48e6


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", folder, ROOT]
    subprocess.run(pip, check=True, cwd=folder)
    (path,) = folder.glob("*.whl")
    return path


def test_what_the_wheel_holds(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        bundle = [info for info in archive.infolist() if info.filename.startswith("uigc/runtime/default_bundle/")]
    expected = ("__init__.py", "py.typed", "runtime/default_bundle/manifest.json", "runtime/samples/coffee.webp")
    for name in (*expected, "export/trace.py"):
        assert f"uigc/{name}" in names
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"uigc"}
    assert not any("tests" in name for name in names)
    assert 1e6 < sum(info.file_size for info in bundle) < BUNDLE_LIMIT


def test_the_wheel_runs_apart_from_the_checkout(wheel: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", site, wheel]
    subprocess.run(pip, check=True)
    code = (
        "import uigc as r, numpy as n; "
        "c = r.Codec(); x = n.zeros((20, 30, 3), n.uint8); "
        "print(r.__file__, c.decompress(c.compress(x)).shape)"
    )
    environment = {**os.environ, "PYTHONPATH": str(site)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert done.stdout.startswith(str(site))
    assert "(20, 30, 3)" in done.stdout
