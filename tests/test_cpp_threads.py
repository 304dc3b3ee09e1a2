"""The interface for C, called from many threads, under ThreadSanitizer.

Optional: it is built anew with another sanitizer, which takes longer than all that it tests. ``UIGC_TEST_TSAN=1`` asks
for it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from tests.support import cpp
from tests.support.paths import ROOT
from uigc.runtime.codec import Codec

SANITIZED = ("-O1", "-g1", "-fsanitize=thread")
REPORT = "WARNING: ThreadSanitizer: data race"
pytestmark = [
    cpp.needs_compiler,
    pytest.mark.skipif(not os.environ.get("UIGC_TEST_TSAN"), reason="asked for by UIGC_TEST_TSAN=1"),
]


def run(program: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run the program; only what our own code does is reported, because ONNX Runtime is not built for it."""
    fixed = [str(shutil.which("setarch")), "-R"] if shutil.which("setarch") else []  # it knows few layouts of memory
    environment = cpp.environment() | {"TSAN_OPTIONS": "ignore_noninstrumented_modules=1 exitcode=66"}
    command = [*fixed, str(program), *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, compiler = tmp_path_factory.mktemp("threads"), str(cpp.COMPILER)
    made = {path.stem: path for path in cpp.compile_all(folder, compiler, *SANITIZED)}
    source = ROOT / "tests" / "support" / "many_threads.cpp"
    command = [compiler, *cpp.FLAGS, *SANITIZED, "-I", ROOT / "cpp", "-c", source, "-o", folder / "many_threads.o"]
    subprocess.run(command, check=True)
    parts = [made["codec"], made["uigc"], folder / "many_threads.o"]
    return cpp.link(folder / "many_threads", compiler, parts, *SANITIZED)


def test_no_thread_meets_another(program: Path, tiny: Codec, tiny_path: Path, tmp_path: Path) -> None:
    """One codec, and one of each thread's own; every result, and every refusal's sentence, is that of one thread."""
    seen = run(program, tiny_path, 0, 0, "none")
    if REPORT not in seen.stderr:
        pytest.skip(f"ThreadSanitizer does not run here: {(seen.stderr.splitlines() or ['it reports nothing'])[0]}")
    files = [tmp_path / "small.uigc", tmp_path / "large.uigc"]
    for path, size in zip(files, (40, 150), strict=True):
        pixels = np.random.default_rng(size).integers(0, 256, (size, size, 3), dtype=np.uint8)
        path.write_bytes(tiny.compress(pixels, "edge_more+draw7"))
    done = run(program, tiny_path, 6, 4, *files)
    assert done.stderr == "", done.stderr[:4000]
    assert (done.returncode, done.stdout) == (0, "0 wrong, 2 of 4 refused\n")
