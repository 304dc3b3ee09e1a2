"""Compress a folder of images, or a Parquet file of them, on a Ray cluster: python compress.py IMAGES OUT --actors 2

IMAGES is a folder, or Parquet with the columns ``name`` and ``image`` (an encoded image's bytes). OUT, which all
machines of the cluster can write to, gets NAME.uigc for each; what is there already is left alone, so the same command
again goes on where it stopped. Each actor holds a codec; Ray Data hands out batches as actors become free, starts an
actor that dies anew, and gives its batch to another. A file is written under another name and renamed, so whoever
repeats a batch writes the same bytes to the same name, and no file is lost, doubled or cut.
"""

from __future__ import annotations

import argparse
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import ray

SUFFIX = ".uigc"
READING = 1  # cores that actors leave to the tasks that list and read files


class Compressor:
    """An actor: a codec, its graphs loaded once. Errors come back as text, and stop no other image."""

    def __init__(self, out: str, mask: str, bundle: str | None) -> None:
        from uigc import Codec

        self.codec, self.out, self.mask = Codec(bundle, threads=1), Path(out), mask

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        rows = [self.compress(*row) for row in zip(batch["name"], self.images(batch), strict=True)]
        names, sizes, errors = zip(*rows, strict=True)
        return {"name": np.array(names), "bytes": np.array(sizes), "error": np.array(errors)}

    def images(self, batch: dict[str, Any]) -> Iterator[Any]:
        return (bytes(image) for image in batch["image"]) if "image" in batch else map(Path, batch["path"])

    def compress(self, name: str, image: Any) -> tuple[str, int, str]:
        from uigc import UigcError

        target = self.out / f"{name}{SUFFIX}"
        if target.exists():  # this batch was begun by an actor that died
            return name, target.stat().st_size, ""
        try:
            data = self.codec.compress(image, self.mask)
        except UigcError as error:
            return name, 0, f"{type(error).__name__}: {error}"
        part = self.out / f".{name}.{uuid.uuid4().hex}.part"
        part.write_bytes(data)
        os.replace(part, target)
        return name, len(data), ""


def dataset(source: Path, out: Path) -> ray.data.Dataset:
    """Return the images that have no output yet."""
    done = {path.name.removesuffix(SUFFIX) for path in out.glob(f"*{SUFFIX}")}
    if source.is_dir() and not any(source.glob("*.parquet")):
        paths = [path for path in sorted(source.iterdir()) if path.is_file()]
        rows = [{"name": path.name, "path": str(path)} for path in paths if path.name not in done]
        return ray.data.from_items(rows)
    return ray.data.read_parquet(str(source), columns=["name", "image"]).filter(lambda row: row["name"] not in done)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--actors", type=int, default=2)
    parser.add_argument("--batch", type=int, default=4, help="images that an actor takes at a time")
    parser.add_argument("--mask", default="edge")
    parser.add_argument("--bundle")
    parser.add_argument("--local", type=int, metavar="CORES", help="start a cluster on this machine")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    if options.local:
        ray.init(num_cpus=options.local + READING, include_dashboard=False)
    else:
        ray.init()
    cores = int(ray.cluster_resources().get("CPU", 0)) - READING
    if options.actors > cores:  # Ray would wait for ever
        raise SystemExit(
            f"There are cores for {cores} actors, and one to read; give --actors {cores}, or add machines."
        )
    arguments = [str(options.out.resolve()), options.mask, options.bundle]
    results = dataset(options.images.resolve(), options.out).map_batches(
        Compressor,
        fn_constructor_args=arguments,
        batch_size=options.batch,
        concurrency=options.actors,
        max_restarts=-1,  # actors that die are started anew,
        max_task_retries=-1,  # and their batches repeated
    )
    count = size = failed = 0
    for row in results.iter_rows():
        count, size, failed = count + 1, size + int(row["bytes"]), failed + bool(row["error"])
        if row["error"]:
            print(f"{row['name']}: {row['error']}")
    print(f"{count} images, {size} bytes, {failed} failed")
    ray.shutdown()


if __name__ == "__main__":
    main()
