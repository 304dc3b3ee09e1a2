"""One target under libFuzzer, in a process of its own: ``python -m uigc.fuzz.drive TARGET STATE RUNS FOLDERS FLAGS``.

``STATE`` is a folder. ``counts.json`` there is rewritten twice a second; its folder ``finds`` is for the inputs that do
what no input may do. Such an input does not end the run, unless it ends the process.
"""

from __future__ import annotations

import json
import logging
import random
import sys
import time
from collections import Counter
from hashlib import sha256
from pathlib import Path

import atheris

KEPT = 20  # inputs of one kind of find
_FORMAT, _BUNDLE = ["uigc.runtime.format"], ["uigc.runtime.bundle", "uigc.runtime.format.schedule"]
MODULES = {
    "header": _FORMAT,
    "file": [*_FORMAT, "uigc.runtime.token_codec", "uigc.runtime.networks"],
    "mask": _FORMAT,
    "tokens": _FORMAT,
    "mask_text": _FORMAT,
    "manifest": _BUNDLE,
    "weights": _BUNDLE,
    "image": ["uigc.runtime.io", "PIL"],
}
"""The modules of each target whose coverage is watched; they are those that are first imported with the targets."""


def peak_memory() -> int:
    """Return the most memory that this process has had, in bytes; what started it does not count."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) << 10


class Recorder:
    """Judges inputs, counts what came of them, and keeps the finds."""

    def __init__(self, name: str, state: Path, runs: int) -> None:
        from uigc.fuzz.targets import TARGETS

        self.target, self.state, self.runs = TARGETS[name], state, runs
        self.done, self.written = 0, 0.0
        self.counts, self.finds = Counter[tuple[str, str]](), Counter[str]()

    def __call__(self, data: bytes) -> None:
        from uigc.fuzz.target import Find, judge

        try:
            outcome = judge(self.target, data)
        except Find as find:
            outcome = f"find: {str(find)[:60]}"
            self.finds[outcome] += 1
            if self.finds[outcome] <= KEPT:
                name = sha256(data).hexdigest()[:16]
                (self.state / "finds" / f"{name}{self.target.suffix}").write_bytes(data)
                (self.state / "finds" / f"{name}.reason").write_text(ascii(str(find)[:1000]) + "\n")
        self.counts[self.target.kind(data), outcome] += 1
        self.done += 1
        if self.done >= self.runs or time.monotonic() > self.written + 0.5:
            self.write()

    def write(self) -> None:
        """Write the counts; libFuzzer ends the process without Python's leave."""
        self.written = time.monotonic()
        state = {
            "done": self.done,
            "peak_mb": peak_memory() >> 20,
            "counts": [[*key, count] for key, count in sorted(self.counts.items())],
        }
        new = self.state / "counts.new"
        new.write_text(json.dumps(state))
        new.replace(self.state / "counts.json")

    def mutate(self, data: bytes, largest: int, seed: int) -> bytes:
        """Alter an input by its structure; what has none is altered by libFuzzer, which knows what was compared."""

        def change(part: bytes) -> bytes:
            return bytes(atheris.Mutate(part, len(part) + 64)) if seed % 2 else changed(part, rng)

        from uigc.fuzz.changes import changed

        rng = random.Random(seed)
        return self.target.mutate(data, rng, change)[:largest]


def main() -> None:
    """Run until libFuzzer has made all executions, or one of them ends the process."""
    name, state, runs, *rest = sys.argv[1:]
    logging.getLogger("uigc").setLevel(logging.ERROR)  # nobody reads the warnings of 100,000 images
    with atheris.instrument_imports(include=MODULES[name], enable_loader_override=False):
        recorder = Recorder(name, Path(state), int(runs))
    atheris.Setup([sys.argv[0], f"-runs={runs}", *rest], recorder, custom_mutator=recorder.mutate)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
