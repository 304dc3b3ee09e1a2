"""Runs of targets, each in a process of its own, and the table of what came of their inputs."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from uigc.fuzz.corpus import CORPUS, folder
from uigc.fuzz.target import SLOWEST, Target
from uigc.runtime.errors import DependencyError, ProviderError

LARGEST = 1 << 13  # bytes of an input
MEMORY = 1024  # megabytes that a target's process may take
ATTEMPTS = 20  # processes of one target
_ENDS = {"libFuzzer: timeout": "hangs", "libFuzzer: out-of-memory": "beyond memory"}
FAULTS = ("crashes", "hangs", "beyond memory", "unexpected exceptions")
ACCEPTED = ("decoded", "opened", "read")


@dataclass
class Result:
    """What came of the inputs of one target.

    ``counts``: inputs by kind and outcome. ``faults``: finds by kind of fault. ``peak``: megabytes.
    """

    target: str
    executions: int = 0
    seconds: float = 0.0
    peak: int = 0
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)

    def add(self, state: dict[str, Any]) -> None:
        """Add the counts of one process."""
        self.executions += state["done"]
        self.peak = max(self.peak, state["peak_mb"])
        for kind, outcome, count in state["counts"]:
            self.counts[kind, outcome] += count
            if outcome.startswith("find"):
                self.faults["unexpected exceptions"] += count

    def to_json(self) -> dict[str, Any]:
        """Return the result as a result file holds it."""
        kinds: dict[str, dict[str, int]] = {}
        for (kind, outcome), count in sorted(self.counts.items()):
            kinds.setdefault(kind, {})[outcome] = count
        return {
            "target": self.target,
            "executions": self.executions,
            "seconds": round(self.seconds, 1),
            "peak_mb": self.peak,
            "faults": {fault: self.faults[fault] for fault in FAULTS},
            "kinds": kinds,
        }


def run(target: Target, runs: int, seed: int, finds: Path, corpus: Path = CORPUS) -> Result:
    """Execute a target ``runs`` times, in new processes if one ends early; finds are written to ``finds``."""
    if importlib.util.find_spec("atheris") is None:
        raise DependencyError("Fuzzing needs the package atheris; run: pip install 'uigc[fuzz]'.")
    result, begin = Result(target.name), time.monotonic()
    with tempfile.TemporaryDirectory() as grown:
        for attempt in range(ATTEMPTS):
            if result.executions >= runs:
                break
            folders = [Path(grown), folder(target, corpus)]
            _process(target, runs - result.executions, seed + attempt, folders, finds, result)
    result.seconds = time.monotonic() - begin
    return result


def _process(target: Target, runs: int, seed: int, folders: list[Path], finds: Path, result: Result) -> None:
    """Run one process, and add to the result what came of it."""
    with tempfile.TemporaryDirectory() as state:
        (Path(state) / "finds").mkdir()
        command = [sys.executable, "-m", "uigc.fuzz.drive", target.name, state, str(runs), *map(str, folders)]
        command += [f"-seed={seed}", f"-max_len={LARGEST}", f"-timeout={SLOWEST:.0f}", f"-rss_limit_mb={MEMORY}"]
        command += [f"-artifact_prefix={state}/finds/"]
        done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False)
        counts = Path(state) / "counts.json"
        if counts.exists():
            result.add(json.loads(counts.read_text(encoding="utf-8")))
        elif done.returncode != 0 and not list((Path(state) / "finds").iterdir()):
            last = done.stderr.decode("utf-8", "replace").strip().splitlines()[-1:]
            raise ProviderError(f"A process of the fuzzer ended before its first input ({' '.join(last)}); mend that.")
        if done.returncode != 0:
            said = done.stderr.decode("utf-8", "replace")
            result.faults[next((fault for text, fault in _ENDS.items() if text in said), "crashes")] += 1
            (Path(state) / "finds" / f"{seed}.log").write_text(said[-20_000:], encoding="utf-8")
        for path in (Path(state) / "finds").iterdir():
            finds.mkdir(parents=True, exist_ok=True)
            shutil.move(path, finds / f"{target.name}-{path.name}")


def table(results: list[dict[str, Any]]) -> str:
    """Return the Markdown table of results: one line for each kind of input, one for all."""
    lines, total = [], Counter[str]()
    for kind in dict.fromkeys(kind for result in results for kind in result["kinds"]):
        found = Counter[str]()
        for result in results:
            for outcome, count in result["kinds"].get(kind, {}).items():
                found["inputs"] += count
                unexpected = outcome.startswith("find")
                found["unexpected" if unexpected else "accepted" if outcome in ACCEPTED else "refused"] += count
        total += found
        lines.append(_line(kind, found))
    faults = Counter[str]()
    for result in results:
        faults.update(result["faults"])
    head = "| inputs | tried | accepted | refused | other exceptions |\n|---|---|---|---|---|"
    said = ", ".join(f"{fault}: {faults[fault]}" for fault in FAULTS)
    peak = max(result["peak_mb"] for result in results)
    return "\n".join(
        [
            head,
            *lines,
            _line("all", total),
            "",
            f"In all, {said}; at most {peak} MB of memory, the fuzzer's own included.",
        ]
    )


def _line(name: str, found: Counter[str]) -> str:
    columns = (f"{found[column]:,}" for column in ("inputs", "accepted", "refused", "unexpected"))
    return f"| {name} | {' | '.join(columns)} |"
