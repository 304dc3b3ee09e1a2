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
    "01_roundtrip.py": "600x400: 573 bytes",
    "02_many_files.py": "2 images, ",
    "03_own_provider.py": "numbers compared with the reference, 0 different",
    "04_profile.py": "decoder",
}


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_examples_run(example: Path, tmp_path: Path) -> None:
    photo = Path(shutil.copy(SAMPLE, tmp_path / "photo.webp"))
    many = "FOLDER" in example.read_text(encoding="utf-8")
    if many:
        (tmp_path / "damaged.webp").write_bytes(photo.read_bytes()[:500])
    argument = tmp_path if many else photo
    done = subprocess.run([sys.executable, example, argument], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("damaged.webp: ") == many
    assert (tmp_path / "photo.uigc").exists() >= many
    assert SHOWN[example.name] in done.stdout


def test_examples_are_short() -> None:
    for path in (*EXAMPLES, *sorted((ROOT / "examples" / "05_c").iterdir())):
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 40, path.name
