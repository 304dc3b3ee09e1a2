"""One codec at work for a long time, from many threads: ``python -m uigc.bench.soak --json FILE``.

Images of random sizes are compressed once, one by one. Then their files are decompressed again and again in random
order, in several threads at once, and every result is compared with the first. The memory of the process is read after
every hundred: it must not grow with the number of images, only with the largest. The exit code is 1 if a result
differs, or if the second half of the decodes needed more memory than the first did, by more than a tenth.
"""

from __future__ import annotations

import argparse
import hashlib
import random
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from uigc.bench.profile import sample
from uigc.bench.result import machine, write
from uigc.runtime.arrays import Pixels
from uigc.runtime.cli.arguments import add_codec_arguments, count, make_codec
from uigc.runtime.codec import Codec

SCHEMA = 1
MASKS = ("entire", "edge", "edge_more:0.2", "edge_more:0+draw7")
STEP = 100  # images between two readings of the memory
GROWTH = 0.1  # share of the memory; allocators hold on to some more now and then


def resident_bytes() -> int:
    """Return the memory that this process has now, in bytes; read from Linux's /proc."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmRSS:")[2].split()[0]) << 10


def grows(memory: list[int]) -> bool:
    """Return whether readings in bytes rise from their first half, with its highest, to their second."""
    half = len(memory) // 2
    return half > 0 and max(memory[half:]) > (1 + GROWTH) * max(memory[:half])


def digest(pixels: Pixels) -> str:
    return hashlib.sha256(pixels.tobytes()).hexdigest()


def run(codec: Codec, images: int, decodes: int, threads: int, largest: int, seed: int) -> dict[str, Any]:
    """Return memory after every hundred decodes in bytes, and how many results differed from the first.

    ``images``: the number of different ones, of 1 to ``largest`` pixels a side.
    """
    rng = random.Random(seed)
    whole = sample(largest, largest)
    made = [whole[: rng.randint(1, largest), : rng.randint(1, largest)] for _ in range(images)]
    files = [codec.compress(np.ascontiguousarray(pixels), rng.choice(MASKS)) for pixels in made]
    expected = [digest(codec.decompress(file)) for file in files]
    different, memory = 0, []
    with ThreadPoolExecutor(threads) as pool:
        for begin in range(0, decodes, STEP):
            chosen = [rng.randrange(images) for _ in range(min(STEP, decodes - begin))]
            found = pool.map(lambda index: digest(codec.decompress(files[index])), chosen)
            different += sum(one != expected[index] for one, index in zip(found, chosen, strict=True))
            memory.append(resident_bytes())
    return {"images": images, "decodes": decodes, "threads": threads, "different": different, "resident_bytes": memory}


def main(given: Iterable[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m uigc.bench.soak", description=__doc__)
    parser.add_argument("--images", type=count, default=40, help="different images (default: 40)")
    parser.add_argument("--decodes", type=count, default=1000, help="files to decompress (default: 1000)")
    parser.add_argument("--workers", type=count, default=8, help="threads that decompress at a time (default: 8)")
    parser.add_argument("--largest", type=count, default=512, help="longest side in pixels (default: 512)")
    parser.add_argument("--seed", type=int, default=0, help="number that sizes and order depend on (default: 0)")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    add_codec_arguments(parser)
    arguments = parser.parse_args(None if given is None else list(given))
    codec = make_codec(arguments)
    found = run(codec, arguments.images, arguments.decodes, arguments.workers, arguments.largest, arguments.seed)
    for index, resident in enumerate(found["resident_bytes"], 1):
        print(f"{min(index * STEP, arguments.decodes)} decodes: {resident / 2**20:.0f} MiB")
    print(f"{found['different']} of {found['decodes']} images differ from the first of their file")
    if grows(found["resident_bytes"]):
        print("the memory grew in the second half of the decodes")
    if arguments.json:
        prior = codec.bundle.prior_id.hex()
        write(arguments.json, {"schema": SCHEMA, **machine(), "prior": prior, "provider": arguments.provider, **found})
    raise SystemExit(1 if found["different"] or grows(found["resident_bytes"]) else 0)


if __name__ == "__main__":
    main()
