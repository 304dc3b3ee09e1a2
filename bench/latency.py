"""Decoding side by side: ``python -m uigc.bench.latency --compressai PYTHON --json FILE --readme README.md``.

Our runtime on every provider that runs here, in every precision, against the same modules in PyTorch, eager and
compiled, against CompressAI's models with random weights, and with ``--before`` against an earlier version of uigc. All
of them take turns in one run.
``docs/PROFILING.md`` describes the JSON.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from uigc.bench.interleaved import Times, time_interleaved
from uigc.bench.latency_table import fill, table
from uigc.bench.peer import MODELS, Peer, compressai, earlier
from uigc.bench.profile import sample
from uigc.bench.result import machine, write
from uigc.bench.torch_codec import torch_codec
from uigc.runtime import providers
from uigc.runtime.arrays import Pixels
from uigc.runtime.bundle import Bundle
from uigc.runtime.cli.arguments import size
from uigc.runtime.codec import Codec
from uigc.runtime.errors import InexactError, UigcError
from uigc.runtime.outcomes import unwrap

SCHEMA = 1
SLOW = 5  # CompressAI's turn comes in every fifth round
Setting = dict[str, Any]


def ours(bundle: Bundle, threads: int) -> tuple[dict[str, tuple[Setting, Codec]], dict[str, str]]:
    """Return a codec for each provider and precision that runs here, fastest first, and why others do not run."""
    codecs: dict[str, tuple[Setting, Codec]] = {}
    absent: dict[str, str] = {}
    for name in providers.names():
        try:
            for precision in providers.find(name).precisions:
                if precision in bundle.precisions("stage0"):
                    codec = Codec(bundle, provider=name, threads=threads, precision=precision)
                    setting = {"runtime": "uigc", "provider": name, "precision": precision}
                    codecs[f"uigc {name} {precision}"] = setting, codec
        except (UigcError, ImportError) as error:
            absent[name] = str(error)
    return codecs, absent


def pytorch(bundle: Bundle, compiled: bool) -> dict[str, tuple[Setting, Codec]]:
    """Return the same modules in PyTorch, on the CPU and on a GPU if there is one."""
    codecs = {}
    for device in ("cpu", *(["cuda"] if torch.cuda.is_available() else [])):
        for how in ("eager", *(["compile"] if compiled else [])):
            setting = {"runtime": f"torch {how}", "provider": device, "precision": "fp32"}
            codecs[f"torch {how} {device}"] = setting, torch_codec(bundle, device, how == "compile")
    return codecs


def decoding(codec: Codec, data: bytes, batch: int) -> Callable[[], object]:
    if batch == 1:
        return lambda: codec.decompress(data)
    return lambda: [unwrap(image) for image in codec.decompress_many([data] * batch, batch=batch, jobs=1)]


@dataclass(frozen=True)
class Others:
    """What decodes in processes of its own, where it was asked for: CompressAI, and another version of uigc."""

    compressai: Peer | None = None
    before: Peer | None = None

    @classmethod
    def started(cls, arguments: argparse.Namespace, image: Pixels) -> Others:
        peer, before, threads = arguments.compressai, arguments.before, arguments.threads
        return cls(
            compressai(peer, image, threads) if peer else None,
            earlier(before, image, threads, arguments.mask) if before else None,
        )

    def contenders(self) -> dict[str, tuple[Setting, Callable[[], float]]]:
        found: dict[str, tuple[Setting, Callable[[], float]]] = {}
        if self.before:
            setting = {"runtime": "uigc before", "provider": "cpu", "precision": "int8"}
            found["uigc before"] = setting, self.before.decoding("uigc")
        for model in MODELS if self.compressai else ():
            assert self.compressai is not None
            setting = {"runtime": "compressai", "model": model, "provider": "cpu", "precision": "fp32"}
            found[f"compressai {model}"] = setting, self.compressai.decoding(model)
        return found

    def close(self) -> None:
        for peer in (self.compressai, self.before):
            if peer:
                peer.close()


def measure(
    codecs: dict[str, tuple[Setting, Codec]], others: Others, data: bytes, pixels: int, batch: int, repeats: int
) -> list[dict[str, Any]]:
    """Return one row for each contender, with its times; ``others`` decode single images."""
    grids = {name: codec.decode_tokens(data) for name, (_, codec) in codecs.items()}
    first = next(iter(grids))
    for name, grid in grids.items():
        if not (grid == grids[first]).all():
            raise InexactError(f"{name} decodes other tokens than {first}; compare them with 'uigc verify'.")
    contenders = {name: decoding(codec, data, batch) for name, (_, codec) in codecs.items()}
    settings = {name: setting for name, (setting, _) in codecs.items()}
    for name, (setting, contender) in others.contenders().items() if batch == 1 else ():
        contenders[name], settings[name] = contender, setting
    slow = {name: SLOW for name in contenders if name.startswith("compressai")}

    def tell(done: int, total: int) -> None:
        print(f"\rround {done + 1} of {total}", end="\n" if done + 1 == total else "", flush=True)

    times = time_interleaved(contenders, repeats, every=slow, progress=tell)
    return [_row(settings[name], batch, pixels, taken, times[first]) for name, taken in times.items()]


def _row(setting: Setting, batch: int, pixels: int, times: Times, ours: Times) -> dict[str, Any]:
    """``ratio``: how many times as long as ours takes; the first of our codecs is the one that is chosen by default."""
    return {
        **setting,
        "batch": batch,
        "repeats": len(times.milliseconds),
        "p50_ms": round(times.median, 3),
        "p95_ms": round(times.p95, 3),
        "megapixels_per_second": round(batch * pixels / times.median / 1e3, 3),
        "ratio": round(times.median / ours.median, 3),
    }


def facts_of(peer: Peer | None) -> dict[str, Any] | None:
    return peer.facts if peer else None


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    bundle = Bundle.load(arguments.bundle)
    torch.set_num_threads(arguments.threads)
    codecs, absent = ours(bundle, arguments.threads)
    if not codecs:
        raise UigcError(f"No provider runs here: {absent}; install one, see 'uigc doctor'.")
    if not torch.cuda.is_available():
        absent["torch cuda"] = "PyTorch sees no CUDA device."
    codecs |= pytorch(bundle, not arguments.no_compile)
    sizes: list[dict[str, Any]] = []
    facts: dict[str, Any] = {}
    for width, height in arguments.size:
        image = sample(width, height)
        data = next(iter(codecs.values()))[1].compress(image, arguments.mask)
        rows: list[dict[str, Any]] = []
        others = Others.started(arguments, image)
        try:
            for batch in arguments.batch:
                print(f"{width}x{height}, batch {batch}")
                rows += measure(codecs, others, data, width * height, batch, arguments.repeats)
        finally:
            others.close()
        facts = {"compressai": facts_of(others.compressai), "before": facts_of(others.before)}
        sizes.append({"width": width, "height": height, "bytes": len(data), "rows": rows})
    if not arguments.compressai:
        absent["compressai"] = "Not asked for; --compressai names the interpreter of an environment that has it."
    return {
        "schema": SCHEMA,
        **machine(),
        "prior": bundle.prior_id.hex(),
        "mask": arguments.mask,
        "threads": arguments.threads,
        **facts,
        "absent": absent,
        "sizes": sizes,
    }


def main(given: Iterable[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m uigc.bench.latency", description=__doc__)
    parser.add_argument("--bundle", help="bundle to use (default: the one installed with uigc)")
    parser.add_argument("--size", type=size, nargs="+", default=[(768, 512)], help="WIDTHxHEIGHT (default: 768x512)")
    parser.add_argument("--batch", type=int, nargs="+", default=[1], help="images at a time (default: 1)")
    parser.add_argument("--mask", default="edge", help="mask of the file that is decoded (default: edge)")
    parser.add_argument("--threads", type=int, default=2, help="threads of every contender on the CPU (default: 2)")
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out; it needs a C++ compiler")
    parser.add_argument("--compressai", metavar="PYTHON", help="interpreter of an environment with CompressAI")
    parser.add_argument("--before", metavar="PYTHON", help="interpreter of an environment with another uigc")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    parser.add_argument("--from-json", type=Path, help="measure nothing and take the figures from this file")
    parser.add_argument("--readme", type=Path, help="put the table between the marks of this page")
    arguments = parser.parse_args(None if given is None else list(given))
    made = arguments.from_json
    result = json.loads(made.read_text(encoding="utf-8")) if made else run(arguments)
    print(table(result))
    if arguments.json:
        write(arguments.json, result)
    if arguments.readme:
        fill(arguments.readme, result)


if __name__ == "__main__":
    main()
