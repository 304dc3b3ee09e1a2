"""Every command of every page is one that the programs take: its options, its files, the names and ranges in it.

``test_readme.py`` runs those in ``sh`` blocks as they stand. The others need more than a test has (hours, a GPU, a
folder of photographs); what can be wrong with them is shown here without running them, and those of Polygraphy on ONNX
Runtime are run where it is installed.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import tomllib
import warnings
from functools import cache
from pathlib import Path

import onnx
import pytest

from tests.support.paths import ROOT
from uigc.engines import backend
from uigc.engines.profile import Profile
from uigc.runtime.bundle import Bundle
from uigc.runtime.cli.main import build_parser

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
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


def quoted(pattern: str) -> list[tuple[str, str]]:
    """What pages quote in the text, `like this`, if it begins like the pattern; each with its page."""
    blocks = re.compile(r"^```.*?^```", re.M | re.S)
    texts = [(page.name, blocks.sub("", page.read_text(encoding="utf-8"))) for page in PAGES]
    found = [(page, " ".join(words.split())) for page, text in texts for words in re.findall(r"`([^`]*)`", text)]
    return [(page, words) for page, words in found if re.match(pattern, words)]


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


def options_of(words: list[str]) -> tuple[argparse.ArgumentParser, list[str]]:
    """The parser of the subcommand that is named among the words of a command, or else that of ``uigc`` itself."""
    parser = build_parser()
    (choices,) = (action.choices for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    name = next((word for word in words if not word.startswith("-")), None)
    if name is None:
        return parser, words
    assert name in choices, f"there is no uigc {name}"
    return choices[name], words[words.index(name) + 1 :]


@pytest.mark.parametrize(("page", "line"), quoted(r"uigc\s"))
def test_the_command_uigc_has_what_the_text_names(page: str, line: str) -> None:
    """In the text a command is rarely whole: its subcommand exists, its options do, and they take these values."""
    parser, words = options_of(arguments(line))
    known = {flag: action for action in parser._actions for flag in action.option_strings}
    for option, following in zip(words, [*words, ""][1:], strict=True):
        if option.startswith("-") and option != "-":
            assert option in known, f"{page}: {line}: there is no {option}"
            action = known[option]
            if action.nargs == 0:
                continue
            assert re.match("[^-]", following), f"{page}: {line}: {option} takes a value"
            if action.choices:
                assert following in action.choices, f"{page}: {line}: {following} is not one of {action.choices}"


def test_lines_that_build_engines_are_complete() -> None:
    """Those in blocks: they name a backend, whose sizes and targets it takes, and where the engines go."""
    built = [line for _, line in commands("uigc") if line.startswith("uigc build")]
    assert built
    for line in built:
        found = build_parser().parse_args(arguments(line))
        assert found.backend in backend.FLAVOURS
        assert found.output
        for text in found.profile or []:
            assert Profile.parse(text, found.batch).name
        for target in found.target or []:
            assert re.fullmatch(r"sm\d+", target, re.I), line


def targets_of_make() -> set[str]:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    return set(re.findall(r"^([\w./-]+):(?!=)", makefile, re.M))


def made() -> list[tuple[str, str]]:
    """Every target that a page has `make` make, in a block or in the text."""
    lines_of_pages = [*commands("make"), *quoted(r"make\s")]
    words = [(page, word) for page, line in lines_of_pages for word in line.split()[1:]]
    return [(page, word) for page, word in words if "=" not in word and not word.startswith("-")]


def test_every_target_of_make_is_there() -> None:
    named = made()
    assert {"demo", "test"} <= {target for _, target in named}
    for page, target in named:
        assert target in targets_of_make(), f"{page}: make {target}"


def test_every_extra_is_there() -> None:
    """In `pip install` lines, and wherever a page names one as `uigc[extra]` or ".[extra]"."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    known = set(project["optional-dependencies"])
    named = set()
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for names in re.findall(r"(?:\buigc|[\s\"'/]\.)\[([a-z0-9,\s-]+)\]", text):
            for name in map(str.strip, names.split(",")):
                assert name in known, f"{page.name}: there is no extra {name!r}"
                named.add(name)
    assert {"cpu", "export", "train", "test-gpu"} <= named
    section = (ROOT / "README.md").read_text(encoding="utf-8").split("## Extras")[1].split("\n## ")[0]
    table = re.findall(r"^\| (`[^|]*`) \|", section, re.M)
    listed = {name for row in table for name in re.findall(r"`([\w-]+)`", row)}
    assert known - listed == {"test-gpu", "fuzz"}  # which CONTRIBUTING.md and Makefile are about


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
