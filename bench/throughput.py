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
from uigc.runtime.codec import Codec
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
    parser.add_argument("--size", default="768x512", help="WIDTHxHEIGHT (default: 768x512)")
    parser.add_argument("--count", type=int, default=8, help="files (default: 8)")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 4], help="batches to try (default: 1 4)")
    parser.add_argument("--cores", type=int, default=os.cpu_count() or 1, help="cores to share out (default: all)")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    arguments = parser.parse_args()
    bundle = Bundle.load(arguments.bundle)
    width, height = map(int, arguments.size.split("x"))
    data = Codec(bundle, provider=arguments.provider).compress(sample(width, height))
    asked = ways(arguments.cores, arguments.batch)
    rows = measure(bundle, arguments.provider, asked, data, arguments.count, arguments.repeats)
    for way, row in zip(asked, rows, strict=True):
        print(f"{way!s:36}{row['pictures_per_second']:8.2f} images/s, {row['speedup']:.2f} times the first")
    if arguments.json:
        size = {"width": width, "height": height, "count": arguments.count, "provider": arguments.provider}
        write(arguments.json, {**machine(), **size, "ways": rows})


if __name__ == "__main__":
    main()
