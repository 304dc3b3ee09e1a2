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


@pytest.fixture(scope="module")
def site(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", folder, wheel]
    subprocess.run(pip, check=True)
    return folder


CODE = """
import numpy, uigc
codec, image = uigc.Codec(), numpy.zeros((20, 30, 3), numpy.uint8)
print(uigc.__file__, codec.decompress(codec.compress(image)).shape, uigc.__version__)
"""


@pytest.mark.parametrize("place", ["empty", "beside a folder called uigc", "checkout"])
def test_the_wheel_runs_wherever_it_is_called(site: Path, tmp_path: Path, place: str) -> None:
    """A folder of that name beside the caller, such as a checkout, is not taken for the package."""
    if place == "beside a folder called uigc":
        (tmp_path / "uigc" / "runtime").mkdir(parents=True)
    done = subprocess.run(
        [sys.executable, "-c", CODE],
        env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        cwd=ROOT if place == "checkout" else tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(site))
    assert "(20, 30, 3)" in done.stdout
