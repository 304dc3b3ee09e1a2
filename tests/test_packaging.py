"""The wheel holds what a user needs and runs apart from the checkout; the suite itself runs on the editable install."""

from __future__ import annotations

import os
import re
import runpy
import subprocess
import tarfile
import tomllib
import venv
import zipfile
from datetime import date
from pathlib import Path

import pytest
from PIL import Image

from tests.support.paths import ROOT

BUNDLE_LIMIT = 48e6
LOWEST_EXTRAS = ("cpu", "export", "calibrate", "train", "bench", "completion")


release = runpy.run_path(str(ROOT / ".ci" / "release"))


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The wheel, which was built from the source distribution, and that distribution."""
    made: list[Path] = release["build"](tmp_path_factory.mktemp("dist"))
    return sorted(made, key=lambda path: path.suffix, reverse=True)


@pytest.fixture(scope="module")
def wheel(built: list[Path]) -> Path:
    return built[0]


def test_what_the_source_distribution_holds(built: list[Path]) -> None:
    """Everything that the tests need, and what a reader looks for."""
    with tarfile.open(built[1]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    kept = set(subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True).stdout.split())
    if not kept:
        pytest.skip("not in a repository")
    assert {name for name in kept - names if not name.startswith(".")} == set()


def test_what_keeps_a_release_from_being_made(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[project]\nversion = "1.2.3"\n')
    (tmp_path / "CHANGELOG.md").write_text(f"# Changelog\n\n## 1.2.3 ({date.today().isoformat()})\n")
    faults = release["faults"]
    assert faults("1.2.3", tmp_path, "", ["v1.2.2"]) == []
    assert faults("1.2.3", tmp_path, " M x", ["v1.2.3"]) == [
        "the working tree has changes that are not committed", "the tag v1.2.3 exists"
    ]  # fmt: skip
    texts = " ".join(faults("1.3", tmp_path, "", []))
    assert all(text in texts for text in ("is not MAJOR.MINOR.PATCH", "states version 1.2.3", "no heading '## 1.3 ("))


def test_the_lowest_versions_are_those_that_are_stated() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    groups = [project["dependencies"], *(project["optional-dependencies"][name] for name in LOWEST_EXTRAS)]
    stated = {requirement for group in groups for requirement in group}
    lowest = dict(re.findall(r"(?m)^([\w-]+)==([\d.]+)$", (ROOT / "tests" / "lowest.txt").read_text(encoding="utf-8")))
    found = dict(re.match(r"([\w-]+)>=([\d.]+)", requirement).groups() for requirement in stated)  # type: ignore[union-attr]
    assert found.pop("torch")
    assert {name: [int(part) for part in version.split(".")] for name, version in lowest.items()} == {
        name: [int(part) for part in (version + ".0.0").split(".")[:3]] for name, version in found.items()
    }


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
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment with the wheel and what its extra `cpu` brings, and nothing else."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=True)
    python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    pip = [python, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", f"{wheel}[cpu]"]
    subprocess.run(pip, check=True, cwd=folder)
    return python


CODE = """
import numpy, uigc
codec, image = uigc.Codec(), numpy.zeros((20, 30, 3), numpy.uint8)
print(uigc.__file__, codec.decompress(codec.compress(image)).shape, uigc.__version__)
"""


@pytest.mark.parametrize("place", ["empty", "beside a folder called uigc", "checkout"])
def test_the_wheel_runs_wherever_it_is_called(python: Path, tmp_path: Path, place: str) -> None:
    """A folder of that name beside the caller, such as a checkout, is not taken for the package."""
    if place == "beside a folder called uigc":
        (tmp_path / "uigc" / "runtime").mkdir(parents=True)
    done = subprocess.run(
        [python, "-c", CODE], capture_output=True, text=True, cwd=ROOT if place == "checkout" else tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(python.parent.parent))
    assert "(20, 30, 3)" in done.stdout


def test_the_command_of_the_wheel(python: Path, tmp_path: Path) -> None:
    """In an empty environment it decodes a file that was written long ago, and its installation is sound."""
    golden = ROOT / "tests" / "golden" / "coffee-edge.uigc"
    program = python.parent / "uigc"
    for arguments in (("doctor",), ("decompress", golden, "out.png"), ("--version",)):
        done = subprocess.run([program, *arguments], capture_output=True, text=True, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    with Image.open(tmp_path / "out.png") as image:
        assert image.size == (600, 400)
