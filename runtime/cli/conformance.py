"""``uigc conformance``: write the kit, run a decoder against it, or be such a decoder."""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uigc.runtime.cli.arguments import make_codec
from uigc.runtime.cli.progress_line import ProgressLine
from uigc.runtime.codec import Codec
from uigc.runtime.conformance import kit as kits
from uigc.runtime.conformance.answers import UNSUPPORTED, answer, logits_answer, refusal
from uigc.runtime.conformance.decoders import Decoder
from uigc.runtime.conformance.judge import Verdict, judge_files, judge_stages
from uigc.runtime.conformance.kit import Kit
from uigc.runtime.errors import MismatchError, UigcError, UsageError
from uigc.runtime.format.bitstream import MAX_FILE
from uigc.runtime.io import files
from uigc.runtime.io.streams import flush, note, show
from uigc.runtime.outcomes import capture

_CODEC = frozenset({"bundle", "provider", "engines", "device", "precision", "threads", "max_pixels", "max_memory"})
_PARTS = {
    "-o": (_CODEC | {"force", "quiet"}) - {"max_pixels"},
    "--run and --logits": frozenset({"seconds", "json", "force", "quiet"}),
    "--answer": _CODEC,
}
"""The options that belong to each part of the command. None takes ``--pixel-precision``, as no pixels are computed; the
limit of a kit is a part of the kit."""
_OPTIONS = frozenset({"pixel_precision"}).union(*_PARTS.values())
SECONDS = 60.0


def run(arguments: argparse.Namespace) -> None:
    """Do the one of the three that is asked for, and refuse what belongs to another."""
    runs = arguments.decoder is not None or arguments.logits is not None
    asked = {"-o": arguments.output is not None, "--run and --logits": runs, "--answer": arguments.answer}
    if sum(asked.values()) != 1:
        raise UsageError(
            "Exactly one is needed: -o to write a kit, --run or --logits to use one, or --answer; give it."
        )
    (part,) = (part for part, given in asked.items() if given)
    _expect_options(arguments, part)
    {"-o": _write, "--run and --logits": _judge, "--answer": _answer}[part](arguments)


def _expect_options(arguments: argparse.Namespace, part: str) -> None:
    """Refuse options that do not belong to a part; their defaults are None, or False for those without a value."""
    given = {name for name in _OPTIONS if all(getattr(arguments, name) is not absent for absent in (None, False))}
    strangers = ", ".join(f"--{name.replace('_', '-')}" for name in sorted(given - _PARTS[part]))
    if strangers:
        known = ", ".join(f"--{name.replace('_', '-')}" for name in sorted(_PARTS[part]))
        raise UsageError(f"{strangers} would change nothing of {part}, whose options are {known}; leave it out.")


def _make_codec(arguments: argparse.Namespace) -> Codec:
    """Create the codec with the options' usual defaults, which the parser of this command does not set."""
    arguments.provider = "cpu" if arguments.provider is None else arguments.provider
    arguments.device = arguments.device or 0
    return make_codec(arguments)


def _write(arguments: argparse.Namespace) -> None:
    if arguments.names:
        raise UsageError(f"-o takes one folder, and {arguments.names[0]} was given besides; leave it out.")
    arguments.max_pixels = kits.MAX_PIXELS
    with _make_codec(arguments) as codec, ProgressLine(arguments.quiet) as line:
        size = kits.write(codec.token_codec, arguments.output, arguments.force, line)
    if not arguments.quiet:
        note(f"{arguments.output}: {size / 1e6:.1f} MB, prior {codec.bundle.prior_id.hex()[:8]}")


def _judge(arguments: argparse.Namespace) -> None:
    if len(arguments.names) != 1:
        raise UsageError(f"--run and --logits take one kit, and {len(arguments.names)} were given; give its folder.")
    if arguments.json:
        files.check_free(arguments.json, arguments.force)
    if arguments.seconds is None:
        arguments.seconds = SECONDS
    kit = Kit.load(Path(arguments.names[0]))
    verdicts = []
    for verdict in _verdicts(kit, arguments):
        verdicts.append(verdict)
        if not arguments.quiet or verdict.passed is False:
            show(verdict)
            flush()
    if arguments.json:
        content = [asdict(verdict) for verdict in verdicts]
        files.write(arguments.json, (json.dumps(content, indent=1) + "\n").encode(), arguments.force)
    counts = Counter(verdict.passed for verdict in verdicts)
    summary = f"{counts[True]} of {len(verdicts)} passed, {counts[False]} failed, {counts[None]} skipped"
    if counts[False] or not counts[True]:
        raise MismatchError(f"The decoder does not conform: {summary}; compare its answers with {kit.path}.")
    if not arguments.quiet:
        note(f"The decoder conforms: {summary}.")


def _verdicts(kit: Kit, arguments: argparse.Namespace) -> Iterator[Verdict]:
    """Yield a verdict for each input of the parts that are asked for."""
    values = {"max_pixels": kit.max_pixels}
    if arguments.decoder is not None:
        decoder = Decoder(arguments.decoder, "file", arguments.seconds, values)

        def decode(entry: dict[str, Any]) -> str:
            path = kit.path.resolve() / entry["file"]
            return decoder.ask(f"decode {path}", {"file": path})

        try:
            yield from judge_files(kit, decode, "{max_pixels}" in arguments.decoder)
        finally:
            decoder.close()
    if arguments.logits is not None:
        stages = Decoder(arguments.logits, "tokens", arguments.seconds, values)

        def compute(entry: dict[str, Any]) -> str:
            numbers = {name: entry[name] for name in ("stage", "batch", "rows", "columns")}
            path = kit.path.resolve() / entry["tokens"]
            return stages.ask(f"logits {' '.join(map(str, numbers.values()))} {path}", {**numbers, "tokens": path})

        try:
            yield from judge_stages(kit, compute)
        finally:
            stages.close()


def _answer(arguments: argparse.Namespace) -> None:
    """Answer for the files that are named, or requests on standard input, a line for each."""
    with _make_codec(arguments) as codec:
        if arguments.names:
            for name in arguments.names:
                show(_decode(codec, name))
            return
        for line in sys.stdin:
            show(_reply(codec, line.rstrip("\r\n")))
            flush()


def _reply(codec: Codec, request: str) -> str:
    kind, _, rest = request.partition(" ")
    known: dict[str, Callable[[Codec, str], str]] = {"decode": _decode, "logits": _logits}
    return known[kind](codec, rest) if kind in known else UNSUPPORTED


def _decode(codec: Codec, name: str) -> str:
    data = capture(lambda: files.read(name, MAX_FILE))
    return refusal(data) if isinstance(data, UigcError) else answer(codec.token_codec, data)


def _logits(codec: Codec, rest: str) -> str:
    found = capture(lambda: _computed(codec, rest))
    return refusal(found) if isinstance(found, UigcError) else logits_answer(found)


def _computed(codec: Codec, rest: str) -> NDArray[np.int32]:
    """Return the logits that a request asks for: STAGE BATCH ROWS COLUMNS FILE."""
    prior = codec.token_codec.prior
    try:
        *numbers, name = rest.split(" ", 4)
        stage, batch, rows, columns = map(int, numbers)
    except ValueError:
        raise UsageError(f"The request 'logits {rest}' is not 'logits STAGE BATCH ROWS COLUMNS FILE'.") from None
    if (
        not 0 <= stage < len(prior.schedule)
        or min(batch, rows, columns) < 1
        or rows % prior.window + columns % prior.window
    ):
        raise UsageError(
            f"The request 'logits {rest}' needs a stage below {len(prior.schedule)} and whole windows of "
            f"{prior.window} tokens."
        )
    data = files.read(name, 4 * batch * rows * columns)
    if len(data) != 4 * batch * rows * columns:
        raise UsageError(f"{name} has {len(data)} bytes, and {4 * batch * rows * columns} were expected of its shape.")
    tokens = np.frombuffer(data, dtype="<i4").reshape(batch, rows, columns).astype(np.int32)
    if tokens.min() < 0 or tokens.max() > max(prior.unknown, prior.pad):
        raise UsageError(f"{name} holds tokens beyond {max(prior.unknown, prior.pad)}; write those of the kit.")
    return np.ascontiguousarray(prior.model.logits(prior.load(stage)(tokens)))
