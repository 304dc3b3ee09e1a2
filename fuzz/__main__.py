"""Alter inputs at random, under coverage, and count what comes of them: ``python -m uigc.fuzz run --runs 100000``."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from uigc.bench.result import machine, write
from uigc.fuzz import corpus
from uigc.fuzz.run import run, table
from uigc.fuzz.targets import TARGETS
from uigc.runtime.errors import UigcError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns 1 if an input did what none may do."""
    options = _parser().parse_args(arguments)
    if options.command == "corpus":
        corpus.write([TARGETS[name.partition("=")[0]] for name in options.targets or TARGETS], options.corpus)
        return 0
    if options.command == "table":
        print(table(json.loads(options.json.read_text(encoding="utf-8"))["results"]))
        return 0
    try:
        return _run(options)
    except UigcError as error:  # of a machine that cannot fuzz
        print(f"uigc.fuzz: {error}", file=sys.stderr)
        return int(error.exit_code)


def _run(options: argparse.Namespace) -> int:
    """Run the targets one after another, each with its share of the executions."""
    asked = [name.partition("=") for name in options.targets or TARGETS]
    chosen, results = [(TARGETS[name], runs) for name, _, runs in asked], []
    shares = sum(target.share for target, _ in chosen)
    for target, runs in chosen:
        count = int(runs or round(options.runs * target.share / shares))
        result = run(target, count, options.seed, options.finds, options.corpus).to_json()
        if result["executions"] < count:
            print(f"{target.name}: {count} were asked for, and its processes ended before.", file=sys.stderr)
        print(f"{target.name}: {result['executions']} executions, {result['seconds']} s", file=sys.stderr)
        results.append(result)
        if options.json:
            write(options.json, {**machine(), "results": results})
    print(table(results))
    if any(any(result["faults"].values()) for result in results):
        print(f"Inputs did what none may do; they are in {options.finds}.", file=sys.stderr)
        return 1
    return 0


def _target(text: str) -> str:
    name, equals, runs = text.partition("=")
    if name not in TARGETS or (equals and not runs.isdecimal()):
        raise argparse.ArgumentTypeError(f"{text!r} is neither a target nor TARGET=RUNS")
    return text


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m uigc.fuzz", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    running = commands.add_parser("run", help="run targets, or each TARGET=RUNS as often as it says")
    running.add_argument("--runs", type=int, default=100_000, help="executions of all targets together")
    running.add_argument("--finds", type=Path, default=Path("finds"), help="folder for inputs that were not survived")
    running.add_argument("--seed", type=int, default=1, help="number that the choices depend on")
    running.add_argument("--json", type=Path, help="file for the counts")
    writing = commands.add_parser("corpus", help="write the inputs to begin with")
    for each in (running, writing):
        each.add_argument("--corpus", type=Path, default=corpus.CORPUS, help="folder of the inputs to begin with")
        each.add_argument("targets", nargs="*", type=_target, metavar="TARGET", help=f"of {', '.join(TARGETS)}")
    showing = commands.add_parser("table", help="show a file of counts as a table")
    showing.add_argument("json", type=Path)
    return parser


if __name__ == "__main__":
    sys.exit(main())
