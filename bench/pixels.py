"""Encoder and pixel decoder in each precision: ``python -m uigc.bench.pixels KODAK --networks FILE --json FILE``.

Quality of the files (encoder and decoder in that precision), of the decoder alone (the file of the float32 encoder),
the share of tokens that stay the same, and the time of both networks on the first image, all precisions taking turns
in one run. The prior is the same in all of them.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from uigc.bench.evaluate import Record, Yardstick, means
from uigc.bench.interleaved import time_interleaved
from uigc.bench.peers import Coded
from uigc.bench.result import machine, write
from uigc.runtime import providers
from uigc.runtime.arrays import Pixels
from uigc.runtime.bundle import Bundle
from uigc.runtime.codec import DEFAULT_MASK, Codec
from uigc.runtime.io import image
from uigc.runtime.io.image_sources import images_in

FULL = "fp32"
COLUMNS = ("psnr", "lpips_alex", "dists")


def codecs(bundle: Bundle, provider: str, threads: int | None) -> dict[str, Codec]:
    """Return one codec for each precision that both pixel networks have."""
    names = [name for name in bundle.precisions("decoder") if name in bundle.precisions("encoder")]
    return {name: Codec(bundle, provider=provider, threads=threads, pixel_precision=name) for name in names}


def quality(chosen: dict[str, Codec], paths: list[Path], yardstick: Yardstick, mask: str) -> dict[str, Any]:
    """Return means and figures of each image by precision: of its ``files``, and of its ``decoder`` on the tokens of
    fp32.
    """
    records: dict[str, dict[str, list[Record]]] = {name: {"files": [], "decoder": []} for name in chosen}
    same: dict[str, list[float]] = {name: [] for name in chosen}
    exact = chosen[FULL]
    for number, path in enumerate(paths):
        print(f"\r{number}/{len(paths)}", end="", flush=True)
        pixels = image.read(path.read_bytes())
        height, width = pixels.shape[:2]
        tokens = exact.tokenize(pixels)
        reference = exact.encode_tokens(tokens, pixels, mask)
        for name, codec in chosen.items():
            own = codec.tokenize(pixels)
            same[name].append(float((own == tokens).mean()))
            for side, encoded in (("files", exact.encode_tokens(own, pixels, mask)), ("decoder", reference)):
                back = np.ascontiguousarray(codec.detokenize(encoded.grid)[:height, :width])
                records[name][side].append(yardstick.measure(path.name, pixels, Coded(mask, encoded.data, back)))
    print(f"\r{len(paths)}/{len(paths)}")
    return {
        name: {
            "same_tokens": round(float(np.mean(same[name])), 5),
            **{
                side: {"means": means(found), "pictures": [asdict(record) for record in found]}
                for side, found in sides.items()
            },
        }
        for name, sides in records.items()
    }


def times(chosen: dict[str, Codec], pixels: Pixels, repeats: int) -> dict[str, dict[str, dict[str, float]]]:
    """Return median and p95 in milliseconds by precision and network, and the median as a share of that of fp32."""
    grid = chosen[FULL].tokenize(pixels)
    contenders = {("encoder", name): lambda codec=codec: codec.tokenize(pixels) for name, codec in chosen.items()}
    contenders |= {("decoder", name): lambda codec=codec: codec.detokenize(grid) for name, codec in chosen.items()}
    taken = time_interleaved({" ".join(key): call for key, call in contenders.items()}, repeats)
    return {
        name: {
            side: {
                "median_ms": round(taken[f"{side} {name}"].median, 3),
                "p95_ms": round(taken[f"{side} {name}"].p95, 3),
                "of_fp32": round(taken[f"{side} {name}"].median / taken[f"{side} {FULL}"].median, 3),
            }
            for side in ("encoder", "decoder")
        }
        for name in chosen
    }


def table(figures: dict[str, Any]) -> str:
    """Return a Markdown table, one row for each precision."""
    lines = [
        "| precision | bpp | PSNR dB | LPIPS | DISTS | decoder alone: PSNR | LPIPS | DISTS | same tokens "
        "| time: encoder | decoder |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, entry in figures.items():
        own, decoder = (entry["quality"][side]["means"] for side in ("files", "decoder"))
        cells = [name, f"{own['bpp']:.4f}"]
        for means_ in (own, decoder):
            cells += ["-" if means_[key] is None else f"{means_[key]:.4f}" for key in COLUMNS]
        cells.append(f"{100 * entry['quality']['same_tokens']:.1f} %")
        cells += [f"{entry['times'][side]['of_fp32']:.2f}" for side in ("encoder", "decoder")]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m uigc.bench.pixels", description=__doc__)
    parser.add_argument("folder", type=Path, help="folder of images")
    parser.add_argument("--bundle", help="bundle to use (default: the one installed with uigc)")
    parser.add_argument("--provider", default=providers.DEFAULT)
    parser.add_argument("--threads", type=int, help="threads for each graph (default: all cores)")
    parser.add_argument("--mask", default=DEFAULT_MASK)
    parser.add_argument("--networks", type=Path, help="weights of LPIPS and DISTS, see docs/EVALUATION.md")
    parser.add_argument("--repeats", type=int, default=20, help="repeats of each measurement (default: 20)")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    given = parser.parse_args(arguments)
    paths, yardstick = images_in(given.folder), Yardstick(given.networks)
    chosen = codecs(Bundle.load(given.bundle), given.provider, given.threads)
    taken = times(chosen, image.read(paths[0].read_bytes()), given.repeats)
    measured = quality(chosen, paths, yardstick, given.mask)
    figures = {name: {"quality": measured[name], "times": taken[name]} for name in chosen}
    print(table(figures))
    if given.json:
        result = {
            "schema": 1,
            **machine(),
            "data_set": {"name": given.folder.resolve().name, "pictures": len(paths)},
            "networks": yardstick.fingerprint,
            "prior": chosen[FULL].bundle.prior_id.hex(),
            "provider": given.provider,
            "threads": given.threads,
            "mask": given.mask,
            "precisions": figures,
        }
        write(given.json, result)


if __name__ == "__main__":
    main()
