"""Compare ways to regenerate lost tokens: ``python -m uigc.bench.regeneration DIR --networks NETS --json FILE``.

Rules side by side on a folder of images: the most likely token, or one drawn from the most likely ones, as the format
has them; and either fed back into the context of later stages, as it has not. Besides the figures of ``uigc evaluate``,
it gives a Fréchet distance between VGG16 features of patches of 32x32 pixels (after Heusel et al., NeurIPS 2017, on
patches since images are few): whether textures are distributed like those of photographs, wherever they lie.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from uigc.bench.evaluate import to_tensor
from uigc.bench.metrics import DISTS, LPIPS, Networks, psnr
from uigc.bench.result import machine, write
from uigc.runtime.arrays import Tokens
from uigc.runtime.codec import Codec
from uigc.runtime.format.grid import pad_to_windows
from uigc.runtime.format.mask import Mask
from uigc.runtime.format.regeneration import drawn, most_likely, random_numbers
from uigc.runtime.io import image
from uigc.runtime.io.image_sources import images_in

MASKS = ("edge", "edge_more", "edge_more:0")
PATCH_FEATURES, PATCH_POOL = 3, 8  # 256 channels at a quarter of the resolution, means over 8x8 of them


@dataclass(frozen=True)
class Rule:
    """A way to regenerate lost tokens.

    ``seed``: the seed for sampling, None for the most likely token. ``fed_back``: whether later stages see the
    regenerated tokens, which the file format never does.
    """

    name: str
    seed: int | None = None
    fed_back: bool = False


RULES = (
    Rule("most likely"),
    Rule("most likely, fed back", fed_back=True),
    Rule("drawn", seed=0),
    Rule("drawn, fed back", seed=0, fed_back=True),
)


def regenerate(codec: Codec, tokens: Tokens, sent: NDArray[np.bool_], rule: Rule) -> Tokens:
    """Return the grid (h, w) that a rule gives if the ``sent`` tokens of a grid are sent."""
    prior = codec.token_codec.prior
    if not rule.fed_back:
        return prior.regenerate([tokens], [sent], rule.seed)[0]
    schedule, window = prior.schedule, prior.window
    truth = pad_to_windows(tokens, window, prior.pad)
    known = pad_to_windows(sent, window, True)
    chances = None if rule.seed is None else pad_to_windows(random_numbers(rule.seed, *tokens.shape), window, 0)
    context = np.where(truth == prior.pad, prior.pad, prior.unknown).astype(np.int32)
    result = truth.copy()
    for stage in range(len(schedule)):
        values = schedule.gather(truth, stage)
        lost = schedule.gather(known.astype(np.int32), stage) == 0
        if lost.any():
            logits = prior.model.logits(prior.load(stage)(context[None])[0][lost])
            if chances is None:
                values[lost] = most_likely(logits)
            else:
                values[lost] = drawn(logits, schedule.gather(chances, stage)[lost], prior.model.weights)
            schedule.scatter(result, stage, values)
        schedule.scatter(context, stage, values)
    return np.ascontiguousarray(result[: tokens.shape[0], : tokens.shape[1]])


def frechet(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Return the Fréchet distance of normal distributions fitted to features (n, channels)."""
    means = one.mean(0) - other.mean(0)
    first, second = np.cov(one, rowvar=False), np.cov(other, rowvar=False)
    values, vectors = np.linalg.eigh(first)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    cross = np.sqrt(np.linalg.eigvalsh(root @ second @ root).clip(0)).sum()
    return float(means @ means + np.trace(first) + np.trace(second) - 2 * cross)


class _Figures:
    """Collects the figures of one rule at one mask."""

    def __init__(self) -> None:
        self.each: list[tuple[float, float, float, float]] = []
        self.patches: list[NDArray[np.float64]] = []

    def means(self, photographs: NDArray[np.float64]) -> dict[str, float]:
        values = np.mean(self.each, axis=0)
        names = ("psnr", "lpips_alex", "dists", "share_right")
        figures = {name: round(float(value), 5) for name, value in zip(names, values, strict=True)}
        return {**figures, "patch_frechet": round(frechet(photographs, np.concatenate(self.patches)), 4)}


def _patches(features: list[Tensor]) -> NDArray[np.float64]:
    pooled = F.avg_pool2d(features[PATCH_FEATURES], PATCH_POOL)
    rows: NDArray[np.float64] = pooled[0].flatten(1).t().double().numpy()
    return rows


@torch.no_grad()
def measure(codec: Codec, paths: list[Path], networks: Path, masks: tuple[str, ...] = MASKS) -> list[dict[str, Any]]:
    nets = Networks(networks)
    lpips, dists = LPIPS(nets), DISTS(nets)
    found = {(mask, rule.name): _Figures() for mask in masks for rule in RULES}
    photographs = []
    for path in tqdm(paths, unit="pictures"):
        pixels = image.read(path.read_bytes())
        tokens, reference = codec.tokenize(pixels), to_tensor(pixels)
        features = dists.features(reference)
        photographs.append(_patches(features))
        for mask in masks:
            sent = codec.encode_tokens(tokens, pixels, Mask.parse(mask)).sent
            for rule in RULES:
                grid = regenerate(codec, tokens, sent, rule)
                back = to_tensor(codec.detokenize(grid)[: pixels.shape[0], : pixels.shape[1]])
                made = dists.features(back)
                right = float((grid == tokens)[~sent].mean()) if not sent.all() else 1.0
                distances = float(lpips(back, reference)), float(dists.distance(made, features))
                found[mask, rule.name].each.append((float(psnr(back, reference)), *distances, right))
                found[mask, rule.name].patches.append(_patches(made))
    real = np.concatenate(photographs)
    return [{"mask": mask, "rule": rule, **figures.means(real)} for (mask, rule), figures in found.items()]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m uigc.bench.regeneration", description=__doc__)
    parser.add_argument("folder", type=Path, help="folder of images")
    parser.add_argument("--networks", type=Path, required=True, help="as of uigc evaluate")
    parser.add_argument("--bundle", help="bundle to use (default: the one installed with uigc)")
    parser.add_argument("--limit", type=int, help="use at most this many of the images")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    arguments = parser.parse_args()
    paths = images_in(arguments.folder)[: arguments.limit]
    entries = measure(Codec(arguments.bundle), paths, arguments.networks)
    for entry in entries:
        print(f"{entry['mask']:14}{entry['rule']:26}", *(f"{v:10.4f}" for v in list(entry.values())[2:]))
    if arguments.json:
        write(arguments.json, {"schema": 1, **machine(), "pictures": len(paths), "entries": entries})


if __name__ == "__main__":
    main()
