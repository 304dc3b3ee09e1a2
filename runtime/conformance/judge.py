"""Running a decoder against the kit: a verdict for each input."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from uigc.runtime.conformance.answers import UNSUPPORTED
from uigc.runtime.conformance.kit import Kit

Ask = Callable[[dict[str, Any]], str]
"""Takes an entry of ``kit.json`` and returns the decoder's answer."""


@dataclass(frozen=True)
class Verdict:
    """What became of an input. ``passed`` is None if the decoder cannot be asked."""

    name: str
    expected: str
    answered: str
    passed: bool | None

    def __str__(self) -> str:
        if self.passed is None:
            return f"skip  {self.name}: {self.answered}"
        if self.passed:
            return f"pass  {self.name}"
        return f"FAIL  {self.name}: expected '{self.expected}', got '{self.answered}'"


def judge_files(kit: Kit, ask: Ask, limited: bool) -> Iterator[Verdict]:
    """Ask about every file; ``limited``: whether the decoder was told the kit's limit on pixels."""
    for entry in kit.listing["files"]:
        if "limit" in entry and not limited:
            yield Verdict(entry["file"], entry["expected"], "the command takes no {max_pixels}", None)
        else:
            yield _verdict(entry["file"], entry["expected"], ask(entry))


def judge_stages(kit: Kit, ask: Ask) -> Iterator[Verdict]:
    """Ask about the inputs of every stage."""
    for entry in kit.listing["stages"]:
        yield _verdict(entry["tokens"], entry["expected"], ask(entry))


def _verdict(name: str, expected: str, answered: str) -> Verdict:
    return Verdict(name, expected, answered, None if answered == UNSUPPORTED else answered == expected)
