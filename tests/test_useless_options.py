"""Options that would change nothing of what is asked for are refused by name, and nothing is done."""

from __future__ import annotations

from pathlib import Path

import pytest

from uigc.bench.throughput import Way, enough
from uigc.export.decoder_only import write_decoder
from uigc.runtime.bundle import Bundle
from uigc.runtime.cli.main import main
from uigc.runtime.errors import BundleError, ExitCode, UsageError

COMMANDS = {
    "export B --triton OUT --decoder-only": "--decoder-only would change nothing of --triton",
    "export B --triton OUT --force --tokenizer T": "--tokenizer and --force would change nothing of --triton",
    "export B -o OUT --decoder-only --tokenizer T": "--tokenizer would change nothing of --decoder-only",
    "calibrate B --images . --psnr-only --lpips-gain 0.1": "--psnr-only and --lpips-gain contradict each other",
    "decompress a.uigc a.png --partial --batch 2": "--batch would change nothing of --partial",
    "evaluate --compare a.json b.json --setting edge": "--setting would change nothing of --compare",
    "evaluate --compare a.json b.json --effort 2": "--effort would change nothing of --compare",
    "evaluate . --codec webp --effort 2": "--effort would change nothing of --codec webp",
    "compress a.png a.uigc --mask entire --effort 3": "entire leaves nothing to search for",
    "evaluate --compare a.json b.json --codec webp --networks n": "--codec and --networks would change nothing",
}


@pytest.mark.parametrize("command", COMMANDS)
def test_they_are_refused(
    command: str, tiny_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([str(tiny_path) if word == "B" else word for word in command.split()]) == ExitCode.USAGE
    error = capsys.readouterr().err
    assert error.startswith(f"uigc: {COMMANDS[command]}")
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_bundle_that_only_decodes_has_nothing_to_calibrate_or_to_export(
    tiny_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = tmp_path / "bundle"
    write_decoder(Bundle.load(tiny_path), bundle, False, lambda text: None)
    for command in (
        ["calibrate", bundle, "--images", tmp_path, "--psnr-only"],
        ["export", bundle, "-o", tmp_path / "new"],
    ):
        assert main([str(word) for word in command]) == ExitCode.BUNDLE
        assert "only decodes: it has no encoder; use the one that it was made from" in capsys.readouterr().err
    with pytest.raises(BundleError) as refused:
        Bundle.load(bundle).choose(["decoder"], "int8", [])
    assert "calibrate" not in str(refused.value)


def test_no_job_is_measured_that_has_nothing_to_do() -> None:
    ways = [Way(1, 4, 1), Way(4, 1, 2)]
    assert enough(ways, None) == 16
    assert enough(ways, 8) == 8
    with pytest.raises(UsageError, match="8 files are in progress"):
        enough(ways, 7)
