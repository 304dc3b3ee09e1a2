"""The example for Ray: every image once, although a worker is killed; the same command again does the rest."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.support.paths import ROOT
from uigc.runtime.codec import Codec

pytest.importorskip("ray", reason="needs Ray")
pytest.importorskip("pyarrow", reason="needs PyArrow")
PROGRAM = ROOT / "examples" / "ray" / "compress.py"
COUNT = 40


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for number in range(COUNT):
        pixels = rng.integers(0, 256, (200, 300, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:02}.png")
    (folder / "broken.png").write_bytes(b"no image")
    return folder


def start(images: Path, out: Path, bundle: Path) -> subprocess.Popen[str]:
    command = [sys.executable, PROGRAM, images, out, "--local", "2", "--batch", "1", "--bundle", bundle]
    environment = {**os.environ, "RAY_DEDUP_LOGS": "0", "RAY_USAGE_STATS_ENABLED": "0"}
    return subprocess.Popen(
        [str(word) for word in command], env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )


def descendants(pid: int) -> list[int]:
    children = [
        int(child) for path in Path(f"/proc/{pid}/task").glob("*/children") for child in path.read_text().split()
    ]
    return [each for child in children for each in (child, *descendants(child))]


def actors(pid: int) -> list[int]:
    """The processes of a program's cluster that compress."""
    names = {child: Path(f"/proc/{child}/cmdline") for child in descendants(pid)}
    return [child for child, path in names.items() if path.exists() and b"MapBatches(Compressor)" in path.read_bytes()]


def check(out: Path, images: Path, codec: Codec) -> None:
    """Every image has one whole file, and nothing else is there but parts of the process that was killed."""
    made = {path.name: path.read_bytes() for path in out.iterdir() if not path.name.startswith(".")}
    wanted = {f"{path.name}.uigc": codec.compress(path) for path in images.iterdir() if path.name != "broken.png"}
    assert made == wanted


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="needs /proc")
def test_a_killed_worker_neither_loses_nor_doubles(images: Path, tiny_path: Path, tiny: Codec, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with start(images, out, tiny_path) as process:
        while not (found := actors(process.pid)) or not list(out.glob("*.uigc")):
            assert process.poll() is None
            time.sleep(0.01)
        os.kill(found[0], signal.SIGKILL)
        assert len(list(out.glob("*.uigc"))) < COUNT  # it was killed in the midst of the work
        said = process.communicate()[0]
    assert process.returncode == 0
    assert f"{COUNT + 1} images" in said
    assert "1 failed" in said
    check(out, images, tiny)


def test_it_goes_on_where_it_stopped(images: Path, tiny_path: Path, tiny: Codec, tmp_path: Path) -> None:
    """From Parquet, with half of the outputs there, which stay as they are."""
    import pyarrow
    import pyarrow.parquet

    paths = sorted(path for path in images.iterdir() if path.name != "broken.png")
    columns = {"name": [path.name for path in paths], "image": [path.read_bytes() for path in paths]}
    pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / "images.parquet")
    out = tmp_path / "out"
    out.mkdir()
    for path in paths[: COUNT // 2]:
        (out / f"{path.name}.uigc").write_bytes(tiny.compress(path))
    before = {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
    with start(tmp_path / "images.parquet", out, tiny_path) as process:
        said = process.communicate()[0]
    assert process.returncode == 0
    assert f"{COUNT - COUNT // 2} images" in said
    assert {name: (out / name).stat().st_mtime_ns for name in before} == before
    check(out, images, tiny)
