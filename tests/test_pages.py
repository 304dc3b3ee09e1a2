"""Every command of every page is one that the programs take: its options, its files, the names and ranges in it.

``test_readme.py`` runs those in ``sh`` blocks as they stand. The others need more than a test has (hours, a GPU, a
folder of photographs); what can be wrong with them is shown here without running them, and those of Polygraphy on ONNX
Runtime are run where it is installed.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import warnings
from functools import cache
from pathlib import Path

import onnx
import pytest

from tests.support.paths import ROOT
from uigc.runtime.bundle import Bundle
from uigc.runtime.cli.main import build_parser

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PROGRAMS = "uigc", "python", "polygraphy", "pip", "make", "g++", "export", "alias"
VARIABLES = {"$BUNDLE": str(ROOT / "runtime" / "default_bundle"), "$SHAPE": "tokens:[1,32,48]"}


def lines(page: Path) -> list[str]:
    """The lines of a page that are commands: in ``sh`` blocks, in blocks of four spaces, and in the text."""
    text = page.read_text(encoding="utf-8")
    found = [line for block in re.findall(r"^```sh\n(.*?)^```", text, re.M | re.S) for line in block.splitlines()]
    found += re.findall(r"^    (\S.*)$", text, re.M)
    found += [" ".join(quoted.split()) for quoted in re.findall(r"`((?:polygraphy run|python -m uigc)\s[^`]*)`", text)]
    stripped = [re.split(r"\s#", line)[0].strip() for line in found]
    return [line for line in stripped if line.split(" ")[0] in PROGRAMS]


def commands(program: str) -> list[tuple[str, str]]:
    return [(page.name, line) for page in PAGES for line in lines(page) if line.split(" ")[0] == program]


def arguments(line: str) -> list[str]:
    for name, value in VARIABLES.items():
        line = line.replace(name, value)
    return shlex.split(line)[1:]


def test_pages_have_commands() -> None:
    counts = {program: len(commands(program)) for program in PROGRAMS}
    assert counts["uigc"] > 25
    assert counts["python"] > 15
    assert counts["polygraphy"] > 10


@pytest.mark.parametrize(("page", "line"), commands("uigc"))
def test_the_command_uigc_takes_them(page: str, line: str) -> None:
    with contextlib.redirect_stderr(io.StringIO()) as said:
        try:
            build_parser().parse_args(arguments(line))
        except SystemExit as end:
            pytest.fail(f"{page}: {line}: {said.getvalue()}" if end.code else "")


@cache
def help_of(module: str, subcommand: str = "") -> str:
    """What ``python -m module --help`` says, in this process."""
    words = [module, *([subcommand] if subcommand else []), "--help"]
    with contextlib.redirect_stdout(io.StringIO()) as said, pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", words)
        with contextlib.suppress(SystemExit), warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # that its package has imported it before
            runpy.run_module(module, run_name="__main__")
    return said.getvalue()


MODULES = [(page, line) for page, line in commands("python") if line.startswith("python -m uigc")]


@pytest.mark.parametrize(("page", "line"), MODULES)
def test_modules_take_them(page: str, line: str) -> None:
    _, module, *rest = arguments(line)
    usage = help_of(module)
    if rest and re.search(rf"\{{[^}}]*\b{re.escape(rest[0])}\b[^}}]*\}}", usage):
        usage = help_of(module, rest[0])
    assert "usage:" in usage, f"{page}: {line}"
    for option in (word.partition("=")[0] for word in rest if word.startswith("--")):
        assert re.search(rf"(?<![\w-]){option}(?![\w-])", usage), f"{page}: {line}: there is no {option}"


POLYGRAPHY = [line for _, line in commands("polygraphy")]


@pytest.mark.parametrize("line", POLYGRAPHY)
def test_what_polygraphy_is_told_is_of_this_bundle(line: str) -> None:
    """The files are there, the tokens are ones that the graph knows, and its tensors have these names."""
    words, bundle = arguments(line), Bundle.load(recompute=False)
    for word in words:
        if word.startswith(VARIABLES["$BUNDLE"]):
            assert Path(word).is_file(), word
    graph = next((Path(word) for word in words if word.endswith(".onnx") and Path(word).is_file()), None)
    if "--val-range" in words:
        low, high = map(int, re.findall(r"\d+", words[words.index("--val-range") + 1]))
        decodes = "decoder" in line or "part.onnx" in line
        assert (low, high) == (0, bundle.codebook - 1 if decodes else bundle.pad)
    if graph is not None:
        model = onnx.load(graph, load_external_data=False).graph
        known = {name for node in model.node for name in node.output} | {value.name for value in model.input}
        for option in ("--inputs", "--outputs", "--input-shapes", "--trt-min-shapes"):
            if option in words:
                assert words[words.index(option) + 1].partition(":")[0] in known, f"{option} in {line}"


def test_polygraphy_runs_on_onnx_runtime(tmp_path: Path) -> None:
    """In the order of the page; those with ``--trt``, and of TensorRT, need a GPU."""
    program = shutil.which("polygraphy", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if program is None:
        pytest.skip("Polygraphy is not installed")
    for line in POLYGRAPHY:
        words = arguments(line)
        if "--trt" in words or words[0] == "convert" or words[:2] == ["inspect", "capability"]:
            continue
        done = subprocess.run([program, *words], cwd=tmp_path, capture_output=True, text=True, timeout=300)
        # Two precisions of a stage differ in their weights only, which the page says.
        expected = {0, 1} if "stage0.fp32" in line else {0}
        assert done.returncode in expected, f"{line}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
