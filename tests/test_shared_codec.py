"""One codec in a process for the same options."""

from __future__ import annotations

import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import numpy as np
import pytest

from uigc.runtime.bundle import Bundle
from uigc.runtime.shared_codec import OPTIONS, check_names, shared_codec

PIXELS = np.random.default_rng(5).integers(0, 256, (30, 20, 3), np.uint8)

FORKING = """
import os, sys
import numpy as np
from uigc.runtime import shared_codec

codec = shared_codec.shared_codec(bundle=sys.argv[1], threads=1)
data = codec.compress(np.zeros((20, 30, 3), np.uint8))
shared_codec._lock.acquire()  # as if another thread were making a codec
if os.fork() == 0:
    assert shared_codec.shared_codec(bundle=sys.argv[1], threads=1) is codec
    assert codec.decompress(data).shape == (20, 30, 3)
    sys.exit(7)
assert os.waitstatus_to_exitcode(os.wait()[1]) == 7
"""


def test_the_same_options_however_they_are_stated(tiny_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    codec = shared_codec(bundle=tiny_path, threads=1)
    monkeypatch.chdir(tiny_path.parent)
    for bundle in (str(tiny_path), Path(tiny_path.name), f"./{tiny_path.name}/", Bundle.load(tiny_path)):
        assert shared_codec(bundle=bundle, threads=1, provider="cpu", engines=None) is codec
    assert shared_codec(bundle=tiny_path, threads=2) is not codec
    monkeypatch.chdir(tiny_path)
    assert shared_codec(bundle=".", threads=1) is codec


def test_options_that_a_codec_does_not_have() -> None:
    assert {"bundle", "provider", "threads", "max_pixels"} <= set(OPTIONS)
    check_names(dict.fromkeys(OPTIONS))
    for call in (lambda: check_names({"thread": 1}), lambda: shared_codec(thread=1)):
        with pytest.raises(TypeError, match="thread"):
            call()


def test_threads_that_ask_at_once_get_one(tiny_path: Path) -> None:
    barrier = Barrier(8)

    def ask(_: int) -> int:
        barrier.wait(timeout=60)
        return id(shared_codec(bundle=tiny_path, threads=1, max_pixels=12345))

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(ask, range(8)))) == 1


def test_a_bundle_that_was_replaced_is_opened_again(tiny_path: Path, tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(tiny_path, folder)
    codec = shared_codec(bundle=folder, threads=1)
    data = codec.compress(PIXELS)
    shutil.rmtree(folder)
    shutil.copytree(tiny_path, folder, copy_function=shutil.copy)  # other inodes and times, the same content
    other = shared_codec(bundle=folder, threads=1)
    assert other is not codec
    assert other.compress(PIXELS) == data


@pytest.mark.skipif(sys.platform != "linux", reason="forks")
def test_a_forked_child_does_not_wait_for_a_thread_of_its_parent(tiny_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", FORKING, tiny_path], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
