"""The conformance kit: the same bytes wherever it is written, true by an independent decoder, and a judge of others."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import Run
from tests.support import cpp
from tests.support.tiny import reference_grid
from tests.support.web import with_runtime
from uigc.runtime.codec import Codec
from uigc.runtime.conformance import answers
from uigc.runtime.conformance.answers import grid_answer, raw, read
from uigc.runtime.conformance.decoders import Decoder
from uigc.runtime.conformance.judge import judge_files
from uigc.runtime.conformance.kit import MAX_PIXELS, Kit, write
from uigc.runtime.errors import ExitCode, InputError, OutputError
from uigc.runtime.progress import silent

ANSWER = shlex.join([sys.executable, "-m", "uigc.runtime.cli", "conformance", "--answer", "--threads", "1"])
OLDEST_WEB = "1.19.2"
"""The oldest onnxruntime-web whose logits docs/CONFORMANCE.md states."""
REFUSALS = {
    "UnrecognizedFileError", "UnsupportedVersionError", "PriorMismatchError", "CorruptFileError", "TooLargeError",
    "InexactError",
}  # fmt: skip


@pytest.fixture(scope="module")
def kit(tiny_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Kit:
    folder = tmp_path_factory.mktemp("conformance") / "kit"
    with Codec(tiny_path, threads=1, precision="int8", max_pixels=MAX_PIXELS) as codec:
        write(codec.token_codec, folder, False, silent)
    return Kit.load(folder)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_it_is_the_same_every_time(kit: Kit, tiny_path: Path, tmp_path: Path, uigc: Run) -> None:
    """In another precision, with other threads, by the command."""
    done = uigc("conformance", "-o", "kit", "--bundle", tiny_path, "--precision", "fp32", "--threads", "2", "--quiet")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert contents(tmp_path / "kit") == contents(kit.path)
    assert sum(map(len, contents(kit.path).values())) < 4e6


def test_what_it_covers(kit: Kit, tiny: Codec) -> None:
    expected = Counter(entry["expected"].split(" ")[1] for entry in kit.listing["files"] if "grid" not in entry)
    assert {name for name in expected if name.endswith("Error")} == REFUSALS
    decoded = [entry for entry in kit.listing["files"] if "grid" in entry]
    assert {entry["mask"] for entry in decoded} == {"entire", "edge", "edge_more", "edge+draw0", "edge_more+draw255"}
    sizes = {(entry["height"], entry["width"]) for entry in decoded}
    assert {(1, 1), (15, 17), (257, 257), (1, 1 << 14)} <= sizes
    for entry in decoded:
        assert (kit.path / entry["grid"]).stat().st_size == 4 * entry["rows"] * entry["columns"]
    stages = {(entry["stage"], "logits" in entry) for entry in kit.listing["stages"]}
    assert stages == {(stage, full) for stage in range(len(tiny.bundle.schedule)) for full in (False, True)}
    full = next(entry for entry in kit.listing["stages"] if "logits" in entry)
    logits = np.frombuffer((kit.path / full["logits"]).read_bytes(), dtype="<i4")
    assert logits.size == np.prod(full["shape"])
    assert full["first"] == " ".join(map(str, logits[:16].tolist()))
    assert tiny.bundle.prior_id.hex() in (kit.path / "README.md").read_text()


def test_it_is_true_by_the_decoder_written_from_the_page(kit: Kit, tiny: Codec) -> None:
    for entry in kit.listing["files"]:
        if entry["expected"].startswith("grid"):
            grid = reference_grid(tiny, (kit.path / entry["file"]).read_bytes())
            assert grid_answer(np.array(grid, dtype=np.int32)) == entry["expected"], entry["file"]


def test_the_command_passes_in_one_process(kit: Kit, tiny_path: Path, tmp_path: Path, uigc: Run) -> None:
    command = f"{ANSWER} --bundle {tiny_path}"
    run = "--run", f"{command} --max-pixels {{max_pixels}}", "--logits", command
    done = uigc("conformance", kit.path, *run, "--json", "verdicts.json")
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "verdicts.json").read_text())
    assert len(found) == len(kit.listing["files"]) + len(kit.listing["stages"]) == len(done.stdout.splitlines())
    assert all(verdict["passed"] for verdict in found)


def test_the_command_answers_for_one_file(kit: Kit, tiny_path: Path, uigc: Run) -> None:
    entries = {entry["file"]: entry["expected"] for entry in kit.listing["files"]}
    names = "files/odd-edge-drawn.uigc", "altered/row-other-magic.uigc"
    done = uigc("conformance", "--answer", *(kit.path / name for name in names), "--bundle", tiny_path)
    assert done.stdout.decode().splitlines() == [entries[name] for name in names]


@cpp.needs_compiler
def test_the_decoder_in_cpp_passes(kit: Kit, tiny_path: Path, tmp_path: Path) -> None:
    program = cpp.build(tmp_path)

    def ask(entry: dict[str, Any]) -> str:
        found = cpp.grid_of(program, tiny_path, kit.path / entry["file"])
        return read(found.code, "") if found.code else grid_answer(found.grid)

    verdicts = list(judge_files(kit, ask, limited=False))
    assert [str(verdict) for verdict in verdicts if verdict.passed is False] == []
    skipped = [verdict.name for verdict in verdicts if verdict.passed is None]
    assert skipped == ["altered/row-side-16384.uigc", "altered/windows-side-16384.uigc"]


@pytest.mark.parametrize("precision", ["int8", "fp32"])
def test_openvino_computes_the_logits(kit: Kit, tiny_path: Path, uigc: Run, precision: str) -> None:
    pytest.importorskip("openvino", reason="openvino (uigc[openvino]) is not installed")
    command = f"{ANSWER} --bundle {tiny_path} --provider openvino --precision {precision}"
    done = uigc("conformance", kit.path, "--logits", command)
    assert (done.returncode, verdicts(done)) == (0, {"pass": len(kit.listing["stages"])}), done.stdout


def test_the_oldest_onnxruntime_web_computes_the_logits(kit: Kit, tiny_path: Path, tmp_path: Path, uigc: Run) -> None:
    """In both precisions; of the pinned version, tests/test_web.py shows it."""
    script = with_runtime(OLDEST_WEB, tmp_path / "web")
    for precision in ("int8", "fp32"):
        command = shlex.join(["env", f"UIGC_PRECISION={precision}", "node", str(script), str(tiny_path)])
        done = uigc("conformance", kit.path, "--logits", command)
        assert (done.returncode, verdicts(done)) == (0, {"pass": len(kit.listing["stages"])}), done.stdout


def verdicts(done: subprocess.CompletedProcess[bytes]) -> dict[str, int]:
    return Counter(line.split(" ")[0] for line in done.stdout.decode().splitlines())


STRANGERS = {
    "-o": ["--seconds 9", "--json verdicts", "--max-pixels 9"],
    "--run": ["--bundle x", "--provider cpu", "--precision int8", "--threads 1", "--max-pixels 9", "--device 0"],
    "--answer": ["--seconds 9", "--json verdicts", "--force", "--quiet"],
}


@pytest.mark.parametrize("part", STRANGERS)
def test_options_of_another_part_are_refused(kit: Kit, tmp_path: Path, uigc: Run, part: str) -> None:
    asked = {"-o": ["-o", "kit"], "--run": [kit.path, "--run", "cat"], "--answer": ["--answer"]}[part]
    for option in [*STRANGERS[part], "--pixel-precision fp32"]:
        done = uigc("conformance", *asked, *option.split())
        assert done.returncode == ExitCode.USAGE
        assert done.stdout == b""
        assert done.stderr.decode().startswith(f"uigc: {option.split()[0]} would change nothing of {part}")
        assert done.stderr.count(b"\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("time", ["0", "-1", "inf", "nan", "86401", "soon"])
def test_no_time_is_refused(kit: Kit, uigc: Run, time: str) -> None:
    done = uigc("conformance", kit.path, "--run", "cat", f"--seconds={time}")
    assert (done.returncode, done.stdout) == (ExitCode.USAGE, b"")
    assert b"--seconds" in done.stderr


WRONG = {
    "grid 00": "grid 00",
    "refused CorruptFileError": "refused CorruptFileError",
    "nonsense": "printed 'nonsense'",
    "1 2": grid_answer(np.array([[1, 2]], dtype=np.int32)),
    "1 x": "printed '1 x'",
    "": "printed nothing",
}


def script(folder: Path, code: str) -> str:
    (folder / "decoder.py").write_text(f"import os, sys, time\n{code}\n")
    return shlex.join([sys.executable, str(folder / "decoder.py")])


@pytest.mark.parametrize("printed", WRONG)
def test_what_is_no_right_answer(kit: Kit, tmp_path: Path, printed: str) -> None:
    """A decoder that says the same of every file is found out."""
    decoder = Decoder(f"{script(tmp_path, f'print({printed!r})')} {{file}}", "file", 60, {})
    entries = [entry for entry in kit.listing["files"] if entry["file"].startswith("files/odd-entire")]
    small = Kit(kit.path, {**kit.listing, "files": entries})
    verdicts = list(judge_files(small, lambda entry: decoder.ask("", {"file": entry["file"]}), limited=True))
    assert {(verdict.answered, verdict.passed) for verdict in verdicts} == {(WRONG[printed], False)}


def test_how_programs_end() -> None:
    for code in ExitCode:
        if code.value in (5, 6, 7, 8, 9, 13):
            assert read(code, "").removeprefix("refused ") in REFUSALS
    assert read(0, "noise\nrefused CorruptFileError\n") == "refused CorruptFileError"
    assert read(1, "grid 00") == "ended with exit code 1"
    assert read(-11, "grid 00") == "ended by signal 11"


def test_processes_that_misbehave(tmp_path: Path) -> None:
    crashing = script(tmp_path, "for line in sys.stdin: os.abort() if 'd' in line else print(line.strip(), flush=True)")
    decoder = Decoder(crashing, "file", 60, {})
    try:
        assert [decoder.ask(word, {}) for word in ("a", "bad", "b")] == ["a", "ended by signal 6", "b"]
    finally:
        decoder.close()
    for code in ("time.sleep(600)", "os.close(1); time.sleep(600)"):
        decoder = Decoder(script(tmp_path, code), "file", 0.2, {})
        assert decoder.ask("a", {}) in ("took more than 0.2 seconds", "closed its streams instead of answering")
        each = Decoder(f"{script(tmp_path, 'time.sleep(600)')} {{file}}", "file", 0.2, {})
        assert each.ask("", {"file": "x"}) == "took more than 0.2 seconds"


@pytest.mark.parametrize(
    "request_",
    ["logits", "logits x 1 8 8 {file}", "logits 9 1 8 8 {file}", "logits 0 1 7 8 {file}", "logits 0 1 8 8 {file}",
     "logits 0 1 8 8 absent"],
)  # fmt: skip
def test_bad_requests_are_refused_and_end_nothing(tiny_path: Path, tmp_path: Path, request_: str) -> None:
    (tmp_path / "tokens").write_bytes(b"none")
    command = [*shlex.split(ANSWER), "--bundle", str(tiny_path)]
    asked = f"{request_.format(file=tmp_path / 'tokens')}\nnonsense\n"
    done = subprocess.run(command, input=asked, capture_output=True, text=True)
    first, second = done.stdout.splitlines()
    assert (done.returncode, second) == (0, answers.UNSUPPORTED)
    assert first.startswith("refused ")


def test_the_exit_code_says_whether_a_decoder_conforms(kit: Kit, tmp_path: Path, uigc: Run) -> None:
    hasty = script(tmp_path, "for line in sys.stdin: print('refused CorruptFileError', flush=True)")
    done = uigc("conformance", kit.path, "--run", hasty)
    assert done.returncode == ExitCode.MISMATCH
    lines = done.stdout.decode().splitlines()
    assert len(lines) == len(kit.listing["files"])
    assert {line.split(" ")[0] for line in lines} == {"pass", "FAIL", "skip"}
    unable = script(tmp_path, "for line in sys.stdin: print('unsupported', flush=True)")
    assert uigc("conformance", kit.path, "--logits", unable).returncode == ExitCode.MISMATCH  # nothing passed


def test_kits_that_are_not_whole(kit: Kit, tiny: Codec, tmp_path: Path, uigc: Run) -> None:
    folder = Path(shutil.copytree(kit.path, tmp_path / "kit"))
    (folder / "files" / "odd-edge-drawn.uigc").write_bytes(b"UIG")
    with pytest.raises(InputError, match=r"odd-edge-drawn\.uigc does not have the hash"):
        Kit.load(folder)
    listing = (kit.path / "kit.json").read_bytes()
    (folder / "kit.json").write_bytes(listing.replace(b'"kit": 1', b'"kit": 2'))
    with pytest.raises(InputError, match="version 2"):
        Kit.load(folder)
    with pytest.raises(OutputError, match="exists"):
        write(tiny.token_codec, folder, False, silent)
    (folder / "kit.json").unlink()
    with pytest.raises(OutputError, match="is not a conformance kit"):
        write(tiny.token_codec, folder, True, silent)
    for arguments in ((), ("x", "y", "--run", "a"), ("x", "-o", "y"), ("--answer", "-o", "y")):
        assert uigc("conformance", *arguments).returncode == ExitCode.USAGE
    done = uigc("conformance", kit.path, "--run", "/no/such/program {file}")
    assert (done.returncode, done.stderr.decode().count("\n")) == (ExitCode.INPUT, 1)


def test_hashes_are_of_the_files_of_numbers(kit: Kit) -> None:
    for entry in kit.listing["files"]:
        if "grid" in entry:
            numbers = np.frombuffer((kit.path / entry["grid"]).read_bytes(), dtype="<i4")
            grid = numbers.reshape(entry["rows"], entry["columns"])
            assert answers.grid_answer(grid) == entry["expected"]
            assert raw(grid) == (kit.path / entry["grid"]).read_bytes()
