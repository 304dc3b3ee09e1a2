"""Inputs altered at random: whatever reads them accepts them, or refuses them with an error of ours."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.paths import ROOT
from uigc.fuzz import corpus, run, target
from uigc.fuzz.__main__ import main
from uigc.fuzz.changes import changer
from uigc.fuzz.stand_in import MAX_PIXELS
from uigc.fuzz.target import Find, Target, judge
from uigc.fuzz.targets import TARGETS
from uigc.runtime.codec import Codec
from uigc.runtime.errors import BundleError

RESULT = ROOT / "bench" / "results" / "hostile.json"


@pytest.fixture(params=TARGETS)
def each(request: pytest.FixtureRequest) -> Target:
    return TARGETS[request.param]


def test_every_input_of_the_corpus(each: Target) -> None:
    outcomes = Counter(judge(each, data) for _, data in corpus.inputs(each))
    assert any(outcome in run.ACCEPTED for outcome in outcomes)
    assert set(each.seeds()) <= {name.removesuffix(each.suffix) for name, _ in corpus.inputs(each)}


def test_altered_inputs(each: Target) -> None:
    """As libFuzzer does it, but without coverage: some hundred, the same ones each time."""
    rng, outcomes = random.Random(0), Counter[bool]()
    seeds = [data for _, data in corpus.inputs(each)]
    for _ in range(2000 if each.name in ("header", "mask_text") else 150):
        outcomes[judge(each, each.mutate(rng.choice(seeds), rng, changer(rng))) in run.ACCEPTED] += 1
    assert min(outcomes[True], outcomes[False]) > 0


def test_the_corpus_is_small_and_its_listing_true() -> None:
    """What other decoders are tested with."""
    lines = (corpus.CORPUS / corpus.LISTING).read_text(encoding="utf-8").splitlines()
    with Codec(max_pixels=MAX_PIXELS, threads=1) as codec:
        rows = [corpus.row(codec, path) for path in sorted((corpus.CORPUS / "files").iterdir())]
    assert [tuple(line.split("\t")) for line in lines] == [corpus.COLUMNS, *rows]
    assert len({row[1] for row in rows}) == 7  # grids, and errors of six kinds
    assert sum(path.stat().st_size for path in corpus.CORPUS.rglob("*") if path.is_file()) < 100_000


def test_the_corpus_is_written_as_it_is_kept(tmp_path: Path) -> None:
    """Files of the default bundle and of the stand-in: the same bytes on every machine."""
    assert main(["corpus", "file", "mask_text", "--corpus", str(tmp_path)]) == 0
    written = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file())
    assert len(written) > 50
    for name in written:
        assert (tmp_path / name).read_bytes() == (corpus.CORPUS / name).read_bytes(), name


def failing(error: Exception) -> Target:
    def check(data: bytes) -> str:
        raise error

    return replace(TARGETS["header"], check=check)


@pytest.mark.parametrize(
    "error", [IndexError("x"), BundleError("two\nlines"), BundleError("a" * 40_001), UserWarning()]
)
def test_what_is_a_find(error: Exception) -> None:
    with pytest.raises(Find):
        judge(failing(error), b"")
    assert judge(failing(BundleError("A sentence.")), b"") == "BundleError"


def test_what_is_slow_is_a_find(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(target, "SLOWEST", -1.0)
    with pytest.raises(Find, match="after 0 s"):
        judge(TARGETS["mask_text"], b"edge")


def test_a_run_under_coverage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("atheris")
    arguments = ["--finds", str(tmp_path / "finds"), "--json", str(tmp_path / "result.json")]
    assert main(["run", "header=3000", *arguments]) == 0
    (result,) = json.loads((tmp_path / "result.json").read_text())["results"]
    counts = {kind: sum(outcomes.values()) for kind, outcomes in result["kinds"].items()}
    assert sum(counts.values()) == result["executions"] == 3000
    assert counts[".uigc files, checksum right"] > 1500
    assert not (tmp_path / "finds").exists()
    out = capsys.readouterr().out
    assert out.splitlines()[-3].startswith("| all | 3,000 |")
    assert main(["table", str(tmp_path / "result.json")]) == 0
    assert capsys.readouterr().out == out


FAULTY = """
import os, time
from uigc.fuzz import drive, targets
def check(data):
    if b"PNG" in data: {fault}
    raise KeyError("stumbled")
from dataclasses import replace
targets.TARGETS["header"] = replace(targets.TARGETS["header"], check=check)
drive.main()
"""


@pytest.mark.parametrize(
    ("fault", "name"),
    [("os.abort()", "crashes"), ("held = b'x' * (1 << 29); time.sleep(4)", "beyond memory")],  # it looks once a second
)
def test_faults_are_counted_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str, name: str) -> None:
    """An exception is counted and the run goes on; what ends the process is found by its end."""
    pytest.importorskip("atheris")
    started = subprocess.run

    def instead(command: list[str], **options: object) -> subprocess.CompletedProcess[bytes]:
        return started([command[0], "-c", FAULTY.format(fault=fault), *command[3:]], **options)

    monkeypatch.setattr(subprocess, "run", instead)
    monkeypatch.setattr(run, "ATTEMPTS", 1)
    monkeypatch.setattr(run, "MEMORY", 400)
    result = run.run(TARGETS["header"], 300, 1, tmp_path)
    assert result.faults[name] == 1
    assert result.executions < 300
    assert any(path.suffix == ".log" for path in tmp_path.iterdir())


def test_the_page_shows_the_long_run(capsys: pytest.CaptureFixture[str]) -> None:
    results = json.loads(RESULT.read_text(encoding="utf-8"))["results"]
    assert sum(result["executions"] for result in results) >= 1_000_000
    assert {result["target"] for result in results} == set(TARGETS)
    assert not any(any(result["faults"].values()) for result in results)
    main(["table", str(RESULT)])
    assert capsys.readouterr().out in (ROOT / "docs" / "SECURITY.md").read_text(encoding="utf-8")
    assert sys.executable not in RESULT.read_text(encoding="utf-8")
