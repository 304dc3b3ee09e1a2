"""What docs/EMBEDDING.md says in C++, and the script and the program that it names."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from tests.support import cpp
from tests.support.paths import ROOT
from uigc.runtime.errors import ExitCode

pytestmark = cpp.needs_compiler


def test_the_code_of_the_page_compiles(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "EMBEDDING.md").read_text(encoding="utf-8")
    program, part = re.findall(r"```cpp\n(.*?)```", page, re.DOTALL)
    part = '#include "bundle.hpp"\nuigc::Tokens page(uigc::Bytes bytes) {' + part + "return grid.tokens; }"
    for name, code in (("program", program), ("part", part)):
        source = tmp_path / f"{name}.cpp"
        source.write_text(code)
        subprocess.run([cpp.COMPILER, "-std=c++17", "-fsyntax-only", "-I", ROOT / "cpp", source], check=True)


def test_headers_of_others_are_not_touched(tmp_path: Path) -> None:
    """The script is given a folder with an ``include/`` that is not its own."""
    (tmp_path / "include").mkdir()
    (tmp_path / "include" / "mine.h").write_text("mine")
    done = subprocess.run([ROOT / "cpp" / "fetch_onnxruntime.sh", tmp_path], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == (
        f"{tmp_path}/include is there and has no headers of ONNX Runtime; give another folder than {tmp_path}.\n"
    )
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")] == ["include", "include/mine.h"]


def test_a_full_disk_behind_the_grid(tmp_path: Path) -> None:
    """As of ``uigc``: exit code 4 and one sentence, and not a success with half of the numbers."""
    program = cpp.build(tmp_path)
    file = ROOT / "tests" / "golden" / "coffee-edge.uigc"
    command = [program, "--tokens", ROOT / "runtime" / "default_bundle", file]
    with open("/dev/full", "wb") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == ExitCode.OUTPUT
    assert done.stderr == "Standard output cannot be written; check the disk, or what reads it.\n"
    whole = subprocess.run(command, capture_output=True, text=True, check=True)
    assert len(whole.stdout.splitlines()) == 25
