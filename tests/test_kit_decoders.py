"""Decoders that the kit is run against: what they do between answers is not a fault of an input."""

from __future__ import annotations

import shlex
import sys
import time
from pathlib import Path

import pytest

from uigc.runtime.conformance.answers import read
from uigc.runtime.conformance.decoders import Decoder

ANSWER_ONE = "import sys; sys.stdin.readline(); print('grid 00', flush=True)"


def decoder(code: str, seconds: float = 10.0) -> Decoder:
    return Decoder(shlex.join([sys.executable, "-c", code]), "file", seconds, {})


@pytest.mark.parametrize("pause", [0.0, 0.3])
def test_a_process_may_end_after_any_answer(pause: float) -> None:
    """Whether it is gone when the next request is written, or goes while that is on its way."""
    asked = decoder(ANSWER_ONE)
    try:
        for _ in range(4):
            assert asked.ask("decode x", {}) == "grid 00"
            time.sleep(pause)
    finally:
        asked.close()


def test_a_process_that_never_answers_is_told(tmp_path: Path) -> None:
    asked = decoder("import sys; sys.exit(3)")
    try:
        assert [asked.ask("decode x", {}) for _ in range(2)] == ["ended with exit code 3 instead of answering"] * 2
    finally:
        asked.close()


def test_what_a_decoder_has_started_ends_with_it(tmp_path: Path) -> None:
    """A script whose child hangs holds the output open: neither is waited for, and both are gone."""
    alive = tmp_path / "alive"
    child = f"import time; time.sleep(1.5); open({str(alive)!r}, 'w')"
    asked = Decoder(f"sh -c {shlex.quote(f'{sys.executable} -c {shlex.quote(child)} & wait')}", "file", 0.3, {})
    begun = time.monotonic()
    try:
        assert asked.ask("decode x", {}) == "took more than 0.3 seconds"
    finally:
        asked.close()
    assert time.monotonic() - begun < 30
    time.sleep(2)
    assert not alive.exists()


def test_only_what_refuses_a_file_is_a_refusal() -> None:
    assert read(8, "") == "refused CorruptFileError"
    assert read(13, "") == "refused InexactError"
    assert read(2, "") == "ended with exit code 2"  # an option that it does not know
    assert read(4, "") == "ended with exit code 4"
