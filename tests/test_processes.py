"""The codec in processes as they are: forked ones, ones that run out of threads, ones whose homes are watched."""

from __future__ import annotations

import os
import pickle
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from tests.support.forking import FORKING
from uigc.bench import soak
from uigc.runtime.codec import Codec
from uigc.runtime.errors import UsageError
from uigc.runtime.io.samples import SAMPLE
from uigc.runtime.providers import compiled_models

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="preloads a library, and forks")
PIXELS = np.random.default_rng(8).integers(0, 256, (100, 140, 3), dtype=np.uint8)
SUPPORT = Path(__file__).parent / "support"


def test_a_codec_is_pickled_as_its_arguments(tiny_path: Path) -> None:
    codec = Codec(tiny_path, threads=1, precision="fp32", max_pixels=30_000)
    data = codec.compress(PIXELS)
    other = pickle.loads(pickle.dumps(codec))
    assert (other.precision, other.limits) == (codec.precision, codec.limits)
    assert other.compress(PIXELS) == data


def test_a_closed_codec_says_so(tiny_path: Path) -> None:
    with Codec(tiny_path, threads=1) as codec:
        data = codec.compress(PIXELS)
    with pytest.raises(UsageError, match="closed"):
        codec.decompress(data)
    codec.close()  # as often as anybody likes


@LINUX
@pytest.mark.parametrize("used", ["one", "both"])
def test_a_codec_works_in_a_forked_child(tiny_path: Path, used: str) -> None:
    """Before and after the parent has loaded the graphs that the child needs."""
    done = subprocess.run([*FORKING, tiny_path, "cpu", used], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("keeps", [True, False])
def test_nothing_is_looked_up_or_written_but_optimized_graphs(
    tiny: Codec, tiny_path: Path, tmp_path: Path, keeps: bool
) -> None:
    """ONNX Runtime's telemetry is off: compressing leaves nothing else in the home, and that only if it may."""
    home = tmp_path / "home"
    home.mkdir()
    environment = {**os.environ, "HOME": str(home), "XDG_CACHE_HOME": str(home / "cache")}
    environment |= {} if keeps else {compiled_models.IGNORE: "0"}
    environment.pop("ORT_DISABLE_TELEMETRY", None)
    command = [sys.executable, "-m", "uigc.runtime.cli", "compress", SAMPLE, "-", "--bundle", tiny_path]
    done = subprocess.run(command, env=environment, capture_output=True, timeout=120, check=True)
    written = [path.parent for path in home.rglob("*") if path.is_file()]
    assert written == [home / "cache" / "uigc" / compiled_models.FOLDER] * (len(written) if keeps else 0)
    assert bool(written) == keeps
    assert tiny.decompress(done.stdout).shape == (400, 600, 3)


@LINUX
def test_a_thread_that_cannot_be_made_is_an_error(tiny: Codec, tiny_path: Path, tmp_path: Path) -> None:
    """Whichever thread fails, standard output holds a file or nothing, and the exit code says which."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("needs a C compiler")
    library = tmp_path / "fail.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, SUPPORT / "fail_thread.c", "-ldl"], check=True)
    command = [sys.executable, "-m", "uigc.runtime.cli", "compress", SAMPLE, "-", "--bundle", tiny_path, "--quiet"]
    codes = set()
    for number in range(1, 8):
        environment = {**os.environ, "LD_PRELOAD": str(library), "FAIL_THREAD": str(number)}
        environment |= {"OPENBLAS_NUM_THREADS": "1"}  # numpy's threads are not needed, and complain by themselves
        done = subprocess.run([*command, "--threads", "2"], env=environment, capture_output=True, timeout=120)
        codes.add(done.returncode == 0)
        if done.returncode == 0:
            assert np.array_equal(tiny.decompress(done.stdout), tiny.decompress(tiny.compress(sample_pixels())))
        else:
            assert done.stdout == b"", number
            assert done.stderr.decode().count("\n") == 1, done.stderr
    assert False in codes  # at least one of them was needed


def sample_pixels() -> np.ndarray:
    from uigc.runtime.io import image

    return image.read(SAMPLE.read_bytes())


def test_one_codec_in_eight_threads(tiny_path: Path) -> None:
    """Compressing and decompressing at once, what each thread gets is what it would get alone."""
    rng = np.random.default_rng(7)
    images = [rng.integers(0, 256, (*rng.integers(1, 90, 2), 3), np.uint8) for _ in range(24)]
    masks = ("entire", "edge", "edge_more:0.3+draw9")

    def work(codec: Codec, index: int) -> tuple[bytes, bytes]:
        data = codec.compress(images[index], masks[index % 3])
        return data, codec.decompress(data).tobytes()

    with Codec(tiny_path, threads=1) as alone:
        expected = [work(alone, index) for index in range(len(images))]
    with Codec(tiny_path, threads=1) as codec, ThreadPoolExecutor(8) as pool:
        assert list(pool.map(partial(work, codec), range(len(images)))) == expected


@LINUX
def test_memory_does_not_grow_with_the_number_of_images(tiny_path: Path) -> None:
    with Codec(tiny_path, threads=1) as codec:
        found = soak.run(codec, images=6, decodes=300, threads=8, largest=80, seed=0)
    assert found["different"] == 0
    first, _, last = found["resident_bytes"]
    assert last < first + (8 << 20)


@pytest.mark.parametrize(
    ("megabytes", "wanted"),
    [([276, 308, 310, 311, 312, 312], False), ([300, 310, 320, 330, 340, 360], True), ([300], False)],
)
def test_growing_memory_is_told(megabytes: list[int], wanted: bool) -> None:
    assert soak.grows([each << 20 for each in megabytes]) == wanted
