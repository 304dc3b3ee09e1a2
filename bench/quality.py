"""Rate and quality on a folder of pictures: ``python -m uigc.bench.quality DIR``.

Rates are those of the bytes of the files. PSNR is always given; LPIPS-Alex and DISTS need ``--networks``, the
safetensors file that :mod:`uigc.bench.metrics` describes.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
from collections import defaultdict
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from uigc.bench.metrics import DISTS, LPIPS, Networks, order0, psnr
from uigc.runtime import Codec, image
from uigc.runtime.doctor import installed
from uigc.runtime.mask import MODES, MaskMode
from uigc.runtime.verify import SUFFIXES

PACKAGES = ("numpy", "constriction", "pillow", "onnxruntime", "onnxruntime-gpu", "torch")


@dataclass(frozen=True)
class Record:
    """Figures of one picture in one mask mode; bits are of tokens alone, bytes of the whole file."""

    picture: str
    mask: str
    width: int
    height: int
    bytes: int
    bpp: float
    tokens: int
    sent: int
    token_bits: float
    psnr: float
    lpips_alex: float | None
    dists: float | None


def _tensor(pixels: NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 255


def measure(codec: Codec, path: Path, networks: Networks | None) -> tuple[list[Record], dict[str, Any]]:
    """One record a mask mode, and the picture's tokens with each stage's count and bits when all are sent."""
    pixels = image.read(path.read_bytes())
    tokens = codec.tokenize(pixels)
    reference, records = _tensor(pixels), []
    costs: dict[MaskMode, list[tuple[int, float]]] = {}
    for label, mode in MODES.items():
        encoded = codec.encode_tokens(tokens, pixels, mode)
        with torch.no_grad():
            back = _tensor(codec.decompress(encoded.data))
            lpips = float(LPIPS(networks)(back, reference)) if networks else None
            dists = float(DISTS(networks)(back, reference)) if networks else None
            decibel = float(psnr(back, reference))
        costs[mode] = codec.prior.cost(tokens, encoded.sent)
        bits = sum(cost for _, cost in costs[mode])
        height, width = pixels.shape[:2]
        rate = 8 * len(encoded.data) / (width * height)
        sent = int(encoded.sent.sum())
        records.append(
            Record(
                path.name, label, width, height, len(encoded.data), rate, tokens.size, sent, bits, decibel, lpips, dists
            )
        )
    return records, {"tokens": tokens, "stages": costs[MaskMode.ENTIRE]}


def summary(records: list[Record], details: list[dict[str, Any]], codebook: int) -> dict[str, Any]:
    """Means over the pictures."""
    by_mask: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        by_mask[record.mask].append(record)

    def mean(values: list[float | None]) -> float | None:
        known = [value for value in values if value is not None]
        return round(sum(known) / len(known), 5) if known else None

    stages = np.array([detail["stages"] for detail in details]).sum(axis=0)
    return {
        "fixed_bits_per_token": math.log2(codebook),
        "order0_bits_per_token": round(order0(np.concatenate([detail["tokens"].ravel() for detail in details])), 4),
        "prior_bits_per_token": round(float(stages[:, 1].sum() / stages[:, 0].sum()), 4),
        "stage_bits_per_token": [round(float(bits / count), 4) for count, bits in stages],
        "words_used": len(np.unique(np.concatenate([detail["tokens"].ravel() for detail in details]))),
        "masks": {
            label: {
                "bpp": mean([record.bpp for record in of_mask]),
                "bytes": mean([record.bytes for record in of_mask]),
                "share_sent": mean([record.sent / record.tokens for record in of_mask]),
                "psnr": mean([record.psnr for record in of_mask]),
                "lpips_alex": mean([record.lpips_alex for record in of_mask]),
                "dists": mean([record.dists for record in of_mask]),
            }
            for label, of_mask in by_mask.items()
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m uigc.bench.quality", description=__doc__)
    parser.add_argument("folder", type=Path, help="folder of pictures")
    parser.add_argument("--bundle", help="bundle to use instead of the one that ships")
    parser.add_argument("--networks", type=Path, help="safetensors of the networks behind LPIPS and DISTS")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    arguments = parser.parse_args()
    codec = Codec(arguments.bundle)
    networks = Networks(arguments.networks) if arguments.networks else None
    records: list[Record] = []
    details = []
    for path in sorted(path for path in arguments.folder.iterdir() if path.suffix.lower() in SUFFIXES):
        of_picture, detail = measure(codec, path, networks)
        records += of_picture
        details.append(detail)
        print(path.name, *(f"{record.mask} {record.bpp:.4f} bpp" for record in of_picture))
    if not records:
        raise SystemExit(f"There is no picture in {arguments.folder}; give a folder of pictures.")
    means = summary(records, details, codec.bundle.codebook)
    print(json.dumps(means, indent=1))
    if arguments.json:
        result = {
            "codec": f"uigc {installed('uigc')}",
            "prior": codec.bundle.prior_id.hex(),
            "data_set": arguments.folder.name,
            "machine": f"{platform.system()} {platform.machine()}",
            "versions": {name: installed(name) for name in PACKAGES},
            "means": means,
            "pictures": [asdict(record) for record in records],
        }
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
