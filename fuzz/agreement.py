"""Compare the decoder in C++ with the package on hostile inputs: ``python -m uigc.fuzz.agreement --files 100000``.

It is built under the sanitizers for addresses and undefined behaviour, and reads folders of inputs in one process each.
For every input both must say the same: the same error class, or the same token grid, or the same model of a bundle.
Networks are replaced by the calculation of ``stand_in.py`` on both sides. Needs a checkout and a C++ compiler.
"""

from __future__ import annotations

import argparse
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import IO, Any

from uigc.bench.result import machine, write
from uigc.fuzz import agreement_bundles, corpus
from uigc.fuzz.agreement_bundles import Outcome
from uigc.fuzz.changes import changer
from uigc.fuzz.files import FILE, valid
from uigc.fuzz.stand_in import MAX_PIXELS, stand_in, tables
from uigc.runtime.bundle import default_path
from uigc.runtime.errors import DependencyError, ExitCode, UigcError
from uigc.runtime.format.grid import grid_shape
from uigc.runtime.outcomes import unwrap
from uigc.runtime.progress import silent

SOURCE = Path(__file__).resolve().with_suffix(".cpp")
HEADERS = SOURCE.parent.parent / "cpp"
WARNINGS = "-Wall -Wextra -Wshadow -Wconversion -Wsign-conversion -Wpedantic -Werror"
SANITIZERS = "-fsanitize=address,undefined -fno-sanitize-recover=all"
BATCH = 5000  # inputs of one process
KEPT = 20  # disagreements that are told


@dataclass(frozen=True)
class _Kind:
    """A kind of input: what reads a folder of them in C++, how one is written, and what the package makes of it."""

    command: Sequence[object]
    put: Callable[[Path, Any], object]
    outcome: Callable[[Path], Outcome]


@dataclass
class Result:
    """What came of the inputs of one kind: how many of each outcome, and on which of them the two disagree."""

    counts: Counter[str] = field(default_factory=Counter)
    disagreements: list[str] = field(default_factory=list)
    crashes: int = 0
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Return the result as a result file holds it."""
        return {
            "inputs": self.counts.total(),
            "accepted": self.counts["OK"],
            "refused": {name: count for name, count in sorted(self.counts.items()) if name != "OK"},
            "disagreements": len(self.disagreements),
            "crashes": self.crashes,
            "seconds": round(self.seconds, 1),
        }


def build(folder: Path, optimization: str = "-O1") -> Path:
    """Build the program that reads inputs in C++ under sanitizers, with every warning an error; return its path."""
    compiler = shutil.which("g++") or shutil.which("clang++")
    if compiler is None or not HEADERS.is_dir():
        raise DependencyError("The comparison needs a checkout and a C++ compiler; install g++ or clang++.")
    program = folder / "agreement"
    flags = ["-std=c++17", optimization, *WARNINGS.split(), *SANITIZERS.split(), "-I", str(HEADERS)]
    subprocess.run([compiler, *flags, str(SOURCE), "-o", str(program)], check=True)
    return program


def files(count: int, rng: random.Random) -> Iterator[bytes]:
    """Make .uigc files: those of the corpus, then altered ones, of which most have a right checksum."""
    seeds = [data for _, data in corpus.inputs(FILE)]
    yield from seeds[:count]
    for _ in range(count - len(seeds)):
        if rng.random() < 0.1:
            yield valid(rng)
            continue
        data = rng.choice(seeds)
        for _ in range(rng.choice((1, 1, 1, 2, 3))):
            data = FILE.mutate(data, rng, changer(rng))
        yield data


def file_outcome(data: bytes) -> Outcome:
    """Return what the package makes of a file: an exit code, and size and CRC-32 of the grid."""
    codec = stand_in()
    try:
        header, _ = file = codec.parse(data)
        (found,) = codec.decode([file], silent)
        grid = unwrap(found)
    except UigcError as error:
        return int(error.exit_code), ""
    assert grid.shape == grid_shape(header.height, header.width, codec.bundle.patch)
    return 0, f"{header.height} {header.width} {agreement_bundles.checksum(grid.reshape(-1))}"


def compare_files(program: Path, count: int, rng: random.Random, finds: Path | None = None) -> Result:
    """Decode altered files on both sides; those on which they disagree are copied to ``finds``."""
    result = Result()
    with tempfile.TemporaryDirectory() as place:
        table = Path(place) / "tables"
        table.write_bytes(tables().astype("<i4").tobytes())
        command = [program, "files", default_path(), table, str(MAX_PIXELS)]
        kind = _Kind(command, lambda path, data: path.write_bytes(data), lambda path: file_outcome(path.read_bytes()))
        _compare(kind, files(count, rng), Path(place) / "inputs", finds, result)
    return result


def compare_bundles(program: Path, count: int, rng: random.Random, finds: Path | None = None) -> Result:
    """Open altered bundles on both sides; those on which they disagree are copied to ``finds``."""
    result = Result()
    with tempfile.TemporaryDirectory() as place:
        kind = _Kind([program, "bundles"], agreement_bundles.put, agreement_bundles.outcome)
        _compare(kind, agreement_bundles.bundles(count, rng), Path(place) / "inputs", finds, result)
    return result


def _compare(kind: _Kind, inputs: Iterator[Any], folder: Path, finds: Path | None, result: Result) -> None:
    """Put inputs into a folder, a batch at a time, and compare what the package and the program make of them."""
    begin = time.monotonic()
    while batch := list(islice(inputs, BATCH)):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        paths = [folder / f"{number:06}" for number in range(len(batch))]
        for path, each in zip(paths, batch, strict=True):
            kind.put(path, each)
        command = [*map(str, kind.command), str(folder)]
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as said:
            with subprocess.Popen(command, stdout=out, stderr=said) as process:
                wanted = {path: kind.outcome(path) for path in paths}
            disagreeing = _judge(process.returncode, _text(out), _text(said), wanted, result)
        if finds is not None:
            for path in disagreeing:
                finds.mkdir(parents=True, exist_ok=True)
                _copy(path, finds / f"{result.counts.total()}-{path.name}")
    result.seconds = time.monotonic() - begin


def _copy(path: Path, to: Path) -> None:
    if path.is_dir():
        shutil.copytree(path, to)
    else:
        shutil.copy(path, to)


def _text(stream: IO[bytes]) -> str:
    stream.seek(0)
    return stream.read().decode("utf-8", "replace")


def _judge(code: int, out: str, said: str, wanted: dict[Path, Outcome], result: Result) -> list[Path]:
    """Count outcomes, and return the inputs on which the two disagree, or at which the program crashed."""
    lines = (line.split(" ", 2) for line in out.splitlines())
    found = {name: (int(number), detail if number == "0" else "") for name, number, detail in lines}
    disagreeing = []
    if code != 0:
        result.crashes += 1
        result.disagreements.append(f"The program ended with {code}: {said[-2000:]}")
        disagreeing = [path for path in wanted if path.name not in found][:1]
    for path, outcome in wanted.items():
        result.counts[ExitCode(outcome[0]).name] += 1
        if found.get(path.name) != outcome and (code == 0 or path.name in found):
            result.disagreements.append(f"{path.name}: {outcome} in Python and {found.get(path.name)} in C++")
            disagreeing.append(path)
    return disagreeing


def table(counts: dict[str, Any]) -> str:
    """Return the Markdown table of a result file."""
    lines = ["| inputs | tried | accepted | refused | disagreements | crashes |", "|---|---|---|---|---|---|"]
    for name, kind in (("files", ".uigc files"), ("bundles", "bundles")):
        found = counts[name]
        columns = [found["inputs"], found["accepted"], sum(found["refused"].values())]
        columns += [found["disagreements"], found["crashes"]]
        lines.append(f"| {kind} | {' | '.join(f'{number:,}' for number in columns)} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns 1 if the two disagree on an input."""
    parser = argparse.ArgumentParser(prog="python -m uigc.fuzz.agreement", description=__doc__)
    parser.add_argument("--files", type=int, default=2000, help="files to decode")
    parser.add_argument("--bundles", type=int, default=300, help="bundles to open")
    parser.add_argument("--seed", type=int, default=0, help="number that the choices depend on")
    parser.add_argument("--optimization", default="-O2", help="the compiler's option")
    parser.add_argument("--finds", type=Path, default=Path("finds"), help="folder for inputs on which the two disagree")
    parser.add_argument("--json", type=Path, help="file for the counts")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        program = build(Path(folder), options.optimization)
        results = {
            "files": compare_files(program, options.files, random.Random(options.seed), options.finds),
            "bundles": compare_bundles(program, options.bundles, random.Random(options.seed), options.finds),
        }
    for text in (text for result in results.values() for text in result.disagreements[:KEPT]):
        print(text, file=sys.stderr)
    counts = {name: result.to_json() for name, result in results.items()}
    print(table(counts))
    if options.json:
        write(options.json, {**machine(), "flags": f"{options.optimization} {SANITIZERS}", **counts})
    return int(any(result.disagreements for result in results.values()))


if __name__ == "__main__":
    sys.exit(main())
