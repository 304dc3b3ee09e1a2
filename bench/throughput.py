"""Find the settings that decode the most images per second: ``python -m uigc.bench.throughput --json FILE``.

All combinations of batch size, jobs (batches in progress at a time) and threads of each graph are timed in turns.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from uigc.bench.interleaved import time_interleaved
from uigc.bench.profile import sample
from uigc.bench.result import machine, write
from uigc.runtime.bundle import Bundle
from uigc.runtime.cli.arguments import count, size
from uigc.runtime.codec import Codec
from uigc.runtime.errors import UsageError
from uigc.runtime.outcomes import unwrap


@dataclass(frozen=True)
class Way:
    """``jobs`` batches of ``batch`` images at a time, each network on ``threads`` threads."""

    jobs: int
    threads: int
    batch: int

    def __str__(self) -> str:
        return f"{self.jobs} jobs of {self.threads} threads, batch {self.batch}"


def ways(cores: int, batches: list[int]) -> list[Way]:
    """Return the ways to try for each batch size: one batch on all cores, two that share them, one for each core."""
    splits = dict.fromkeys([(1, cores), (2, cores), (cores, 1)])
    return [Way(jobs, threads, batch) for batch in batches for jobs, threads in splits]


def enough(asked: list[Way], count: int | None) -> int:
    """Return how many files to decode: ``count``, or two for each that any of the ways has in progress at a time.

    Raises a :class:`UsageError` if some jobs would have nothing to do.
    """
    most = max(way.jobs * way.batch for way in asked)
    if count is not None and count < most:
        raise UsageError(f"--count is {count}, and {most} files are in progress at a time; give as many at least.")
    return 2 * most if count is None else count


def decoding(codec: Codec, way: Way, files: list[bytes]) -> Callable[[], object]:
    return lambda: [unwrap(image) for image in codec.decompress_many(files, batch=way.batch, jobs=way.jobs)]


def measure(
    bundle: Bundle, provider: str, asked: list[Way], data: bytes, count: int, repeats: int
) -> list[dict[str, Any]]:
    """Return images per second of each way, and its speed-up over the first."""
    codecs = {way.threads: Codec(bundle, provider=provider, threads=way.threads) for way in asked}
    contenders = {str(way): decoding(codecs[way.threads], way, [data] * count) for way in asked}
    times = time_interleaved(contenders, repeats, warm_up=1)
    first = times[str(asked[0])].median
    return [
        {
            **asdict(way),
            "p50_ms": round(taken.median, 2),
            "p95_ms": round(taken.p95, 2),
            "pictures_per_second": round(1e3 * count / taken.median, 3),
            "speedup": round(first / taken.median, 3),
        }
        for way, taken in ((way, times[str(way)]) for way in asked)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m uigc.bench.throughput", description=__doc__)
    parser.add_argument("--bundle", help="bundle to use (default: the one installed with uigc)")
    parser.add_argument("--provider", default="cpu")
    parser.add_argument("--size", type=size, default=(768, 512), help="WIDTHxHEIGHT (default: 768x512)")
    parser.add_argument("--count", type=count, help="files (default: what keeps all jobs busy for two rounds)")
    parser.add_argument("--batch", type=count, nargs="+", default=[1, 4], help="batches to try (default: 1 4)")
    parser.add_argument("--cores", type=count, default=os.cpu_count() or 1, help="cores to share out (default: all)")
    parser.add_argument("--repeats", type=count, default=5)
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    arguments = parser.parse_args()
    bundle = Bundle.load(arguments.bundle)
    width, height = arguments.size
    data = Codec(bundle, provider=arguments.provider).compress(sample(width, height))
    asked = ways(arguments.cores, arguments.batch)
    files = enough(asked, arguments.count)
    rows = measure(bundle, arguments.provider, asked, data, files, arguments.repeats)
    for way, row in zip(asked, rows, strict=True):
        print(f"{way!s:36}{row['pictures_per_second']:8.2f} images/s, {row['speedup']:.2f} times the first")
    if arguments.json:
        setting = {"width": width, "height": height, "count": files, "provider": arguments.provider}
        write(arguments.json, {**machine(), **setting, "ways": rows})


if __name__ == "__main__":
    main()
