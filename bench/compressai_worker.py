"""Decodes with CompressAI when told to. ``latency.py`` runs this file with an interpreter that has CompressAI.

Arguments: a file of raw samples uint8, height, width, threads, models. It prints one line of JSON with the versions and
the bytes of each model's file; after that, for every line with the name of a model that it reads, it decodes that
model's file and prints the seconds. The weights are random: times are those of trained ones, rates are not.
"""

from __future__ import annotations

import json
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

QUALITY = 3  # of CompressAI's 1 to 8; decides the number of channels


def main(path: str, height: str, width: str, threads: str, *names: str) -> None:
    import torch
    from compressai.zoo import image_models

    torch.set_num_threads(int(threads))
    torch.manual_seed(0)
    samples = torch.frombuffer(bytearray(Path(path).read_bytes()), dtype=torch.uint8)
    image = samples.reshape(int(height), int(width), 3).permute(2, 0, 1)[None].float() / 255
    bottom, right = -int(height) % 64, -int(width) % 64
    image = torch.nn.functional.pad(image, (0, right, 0, bottom))
    models: dict[str, Any] = {}
    coded: dict[str, Any] = {}
    with torch.inference_mode():
        for name in names:
            models[name] = image_models[name](quality=QUALITY, pretrained=False).eval()
            models[name].update(force=True)
            coded[name] = models[name].compress(image)
        versions = {package: version(package) for package in ("compressai", "torch")}
        sizes = {
            name: sum(len(text) for strings in found["strings"] for text in strings) for name, found in coded.items()
        }
        print(json.dumps({"versions": versions, "quality": QUALITY, "bytes": sizes}), flush=True)
        for line in sys.stdin:
            name = line.strip()
            begun = time.perf_counter()
            models[name].decompress(coded[name]["strings"], coded[name]["shape"])
            print(time.perf_counter() - begun, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
