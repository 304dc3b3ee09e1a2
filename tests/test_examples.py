"""Every example runs as it stands, and is short."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.paths import ROOT
from uigc.runtime.io.samples import SAMPLE

EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
SHOWN = {
    "01_roundtrip.py": "600x400: 577 bytes",
    "02_many_files.py": "1 images, ",
    "03_own_provider.py": "logits compared with the reference, 0 different",
    "04_profile.py": "decoder",
}


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_examples_run(example: Path, tmp_path: Path) -> None:
    photo = Path(shutil.copy(SAMPLE, tmp_path / "photo.webp"))
    argument = tmp_path if "FOLDER" in example.read_text(encoding="utf-8") else photo
    done = subprocess.run([sys.executable, example, argument], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert SHOWN[example.name] in done.stdout


def test_examples_are_short() -> None:
    for path in (*EXAMPLES, ROOT / "examples" / "05_cpp" / "CMakeLists.txt"):
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 40, path.name


@pytest.mark.skipif(shutil.which("cmake") is None, reason="needs CMake")
def test_the_one_in_cpp_builds(tmp_path: Path) -> None:
    """Against the stand-in for ONNX Runtime's header, which needs no library; test_cpp.py runs the same program."""
    shutil.copytree(ROOT / "tests" / "cpp", tmp_path / "root" / "include")
    configure = ["cmake", "-S", ROOT / "examples" / "05_cpp", "-B", tmp_path / "build"]
    options = [f"-DONNXRUNTIME_ROOT={tmp_path / 'root'}", "-DONNXRUNTIME_LIBRARY="]
    subprocess.run([*configure, *options], check=True, capture_output=True)
    subprocess.run(["cmake", "--build", tmp_path / "build"], check=True, capture_output=True)
    done = subprocess.run([tmp_path / "build" / "uigc-decode"], capture_output=True)
    assert done.returncode == 2  # and says how it is called
