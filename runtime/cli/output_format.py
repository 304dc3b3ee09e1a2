"""The format and the quality of the images that ``uigc decompress`` writes."""

from __future__ import annotations

import argparse
from dataclasses import dataclass

from uigc.runtime.errors import UsageError
from uigc.runtime.io.image_outputs import as_suffix, check_suffix


@dataclass(frozen=True)
class OutputFormat:
    """What was asked for: ``suffix`` by ``--format``, empty if nothing was; ``quality`` 1 to 100, or None."""

    suffix: str
    quality: int | None

    @classmethod
    def of_arguments(cls, arguments: argparse.Namespace) -> OutputFormat:
        """Return what ``--format`` and ``--quality`` ask for; refuse a format that cannot be written."""
        asked = cls(as_suffix(arguments.format or ""), arguments.quality)
        check_suffix(asked.suffix)
        return asked

    def of(self, suffix: str) -> str:
        """Return the suffix that decides on the format of an output with this suffix, which may be none."""
        chosen = suffix or self.suffix
        output = check_suffix(chosen, self.quality)
        if self.suffix and check_suffix(self.suffix) != output:
            raise UsageError(f"The output's suffix is {suffix} and --format is {self.suffix[1:]}; give one of the two.")
        return chosen
