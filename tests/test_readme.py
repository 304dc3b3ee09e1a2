"""The commands and the code of the README and of the pages in docs/ run as they stand."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest

from tests.conftest import Run
from tests.support.paths import ROOT
from uigc.runtime.errors import ExitCode
from uigc.runtime.io.samples import SAMPLE

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


# A checkpoint, a training run, a bundle to write to: they have tests of their own.
NEED_MORE = ("uigc import-vqgan", "uigc export", "uigc calibrate")


def commands(page: Path) -> list[list[str]]:
    lines = [line.split(" #")[0] for block in blocks(page, "sh") for line in block.splitlines()]
    return [shlex.split(line)[1:] for line in lines if line.startswith("uigc ") and not line.startswith(NEED_MORE)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_run(page: Path, uigc: Run, tmp_path: Path) -> None:
    (tmp_path / "IMAGES").mkdir()
    shutil.copy(SAMPLE, tmp_path / "IMAGES")
    shutil.copy(SAMPLE, tmp_path / "photo.webp")
    for arguments in commands(page):
        done = uigc(*arguments)
        assert done.returncode == 0, f"uigc {' '.join(arguments)}: {done.stderr.decode()}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(SAMPLE, tmp_path / "photo.webp")
    monkeypatch.chdir(tmp_path)
    for block in blocks(page, "python"):
        exec(compile(block, page.name, "exec"), {})


def test_the_first_screen_has_the_two_commands() -> None:
    first = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()[:60]
    assert {"make demo", "make test"} <= {line.split("#")[0].strip() for line in first}


def test_every_exit_code_is_documented() -> None:
    text = (ROOT / "docs" / "CLI.md").read_text(encoding="utf-8")
    for code in ExitCode:
        assert re.search(rf"^\| {int(code)} \|", text, re.MULTILINE), code.name


def headings(page: Path) -> set[str]:
    """The fragments by which links name the headings of a page: equal ones are numbered."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    found: list[str] = []
    for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE):
        plain = re.sub(r"\]\([^)]*\)", "", heading.lower())
        found.append(re.sub(r"[^\w -]", "", plain).strip().replace(" ", "-"))
    return {f"{name}-{n}" if (n := found[:index].count(name)) else name for index, name in enumerate(found)}


def test_links_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
            if "://" in target:
                continue
            name, _, fragment = target.partition("#")
            there = page.parent / name if name else page
            assert there.exists(), f"{page.name} links to {target}"
            if fragment and there.suffix == ".md":
                assert fragment in headings(there), f"{page.name} links to {target}"
