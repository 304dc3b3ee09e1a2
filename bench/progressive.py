"""Quality against bytes received: ``python -m uigc.bench.progressive DIR --networks NETS --json FILE --plot PNG``.

Files are cut at shares of their bytes and decoded as ``uigc decompress --partial`` does it, each picture with one
decoder that takes in more and more of its file. A cut in the header or mask gives no image, and no figures. The plot
needs matplotlib (the extra ``bench``).
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from uigc.bench.evaluate import to_tensor
from uigc.bench.metrics import DISTS, LPIPS, Networks, psnr
from uigc.bench.plotting import two_charts
from uigc.bench.result import machine, write
from uigc.runtime.codec import Codec
from uigc.runtime.errors import CorruptFileError
from uigc.runtime.io import image
from uigc.runtime.io.image_sources import images_in
from uigc.runtime.progressive import PartialImage, ProgressiveDecoder

MASKS = ("entire", "edge", "edge_more:0+draw")
POINTS = 20


def partial_images(codec: Codec, data: bytes, points: int) -> Iterator[tuple[int, PartialImage]]:
    """Yield the images of a file cut at 1/points, 2/points ... of its bytes, with the numbers of bytes."""
    decoder, given = ProgressiveDecoder(codec), 0
    for point in range(1, points + 1):
        there = round(len(data) * point / points)
        decoder.feed(data[given:there])
        given = there
        try:
            yield there, decoder.picture()
        except CorruptFileError:  # the mask is not there
            continue


@torch.no_grad()
def measure(
    codec: Codec, paths: list[Path], networks: Path, masks: tuple[str, ...] = MASKS, points: int = POINTS
) -> list[dict[str, Any]]:
    """Return the figures of every image that a cut file of each picture and mask gives."""
    nets = Networks(networks)
    lpips, dists = LPIPS(nets), DISTS(nets)
    entries = []
    for path in tqdm(paths, unit="pictures"):
        pixels = image.read(path.read_bytes())
        reference = to_tensor(pixels)
        alex, vgg = lpips.features(reference), dists.features(reference)
        for mask in masks:
            data = codec.compress(pixels, mask)
            for there, part in partial_images(codec, data, points):
                back = to_tensor(part.image)
                figures = {
                    "psnr": float(psnr(back, reference)),
                    "lpips_alex": float(lpips.distance(lpips.features(back), alex)),
                    "dists": float(dists.distance(dists.features(back), vgg)),
                }
                entries.append(
                    {
                        "picture": path.name,
                        "mask": mask,
                        "bytes": there,
                        "of_bytes": len(data),
                        "tokens": int(part.received.sum()),
                        "of_tokens": int(part.sent.sum()),
                        "stages": part.stages,
                        **{name: round(value, 5) for name, value in figures.items()},
                    }
                )
    return entries


def curve(entries: list[dict[str, Any]], mask: str, points: int = POINTS) -> list[dict[str, float]]:
    """Return the means of a mask's figures at every share of the bytes at which all pictures have one."""
    mine = [entry for entry in entries if entry["mask"] == mask]
    pictures, found = len({entry["picture"] for entry in mine}), []
    for point in range(1, points + 1):
        here = [entry for entry in mine if entry["bytes"] == round(entry["of_bytes"] * point / points)]
        if pictures and len(here) == pictures:
            names = "psnr", "lpips_alex", "dists", "bytes"
            means = {name: round(float(np.mean([entry[name] for entry in here])), 5) for name in names}
            found.append({"share": point / points, **means})
    return found


def plot(curves: dict[str, list[dict[str, float]]], path: Path) -> None:
    """LPIPS and DISTS over the bytes received, a line for each mask."""
    with two_charts(path) as both:
        for axes, name, label in zip(both, ("lpips_alex", "dists"), ("LPIPS (AlexNet)", "DISTS"), strict=True):
            for mask, means in curves.items():
                received = [mean["bytes"] for mean in means]
                axes.plot(received, [mean[name] for mean in means], "o-", markersize=3.5, label=mask)
            axes.set(xlabel="bytes received", title=f"{label}, lower is better", ylim=(0, None))
            axes.grid(True, alpha=0.3)
            axes.legend(title="mask")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m uigc.bench.progressive", description=__doc__)
    parser.add_argument("folder", type=Path, help="folder of images")
    parser.add_argument("--networks", type=Path, required=True, help="as of uigc evaluate")
    parser.add_argument("--bundle", help="bundle to use (default: the one installed with uigc)")
    parser.add_argument("--limit", type=int, help="use at most this many of the images")
    parser.add_argument("--points", type=int, default=POINTS, help=f"cuts of each file (default: {POINTS})")
    parser.add_argument("--mask", action="append", help=f"may be given several times (default: {', '.join(MASKS)})")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    parser.add_argument("--plot", type=Path, help="draw the curves into this PNG")
    arguments = parser.parse_args()
    paths, masks = images_in(arguments.folder)[: arguments.limit], tuple(arguments.mask or MASKS)
    entries = measure(Codec(arguments.bundle), paths, arguments.networks, masks, arguments.points)
    curves = {mask: curve(entries, mask, arguments.points) for mask in masks}
    for mask, means in curves.items():
        for mean in means:
            print(f"{mask:20}", *(f"{value:10.4f}" for value in mean.values()))
    if arguments.json:
        write(
            arguments.json,
            {"schema": 1, **machine(), "pictures": len(paths), "curves": curves, "entries": entries},
        )
    if arguments.plot:
        plot(curves, arguments.plot)


if __name__ == "__main__":
    main()
