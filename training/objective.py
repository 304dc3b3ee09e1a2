"""What a pixel decoder is trained for: the gradient of all losses for the images that it made of a batch."""

from __future__ import annotations

import random
from pathlib import Path

import torch
from torch import Tensor

from uigc.bench.metrics import Networks
from uigc.runtime.format.bitstream import PATCH
from uigc.training.adversary import ADVERSARIES, Adversaries
from uigc.training.loop import Run, RunOptions, Stateful, uses_bfloat16
from uigc.training.losses import LossWeights, Patterns, PerceptualLosses, flat_distance, pixel_terms

LARGER_AFTER = 0.6  # share of the budget; from then on fewer but larger crops
RAMP = 0.05  # share of the budget in which adversaries that start from nothing get their weight
FLAT_SHARE = 1 / 8  # of a batch, in single colours
SMALLEST_CROP = 48


def larger(size: int) -> int:
    """The crop size of the last part of a run that begins with crops of ``size`` pixels: half as much again."""
    return PATCH * round(1.5 * size / PATCH)


def window(size: int) -> int:
    """How many pixels of a crop's ``size`` the networks see, so that its borders, which a decoder has to make without
    knowing their surroundings, do not dominate: 96 of 128, 128 of 192."""
    return 3 * size // 4 // 32 * 32


def plan(progress: float, size: int, batch: int) -> tuple[int, int, int]:
    """Return the crop size of a step at ``progress``, 0..1, and how many crops of photographs and of single colours
    it takes."""
    if progress >= LARGER_AFTER:
        size, batch = larger(size), max(2, batch // 2)
    flat = max(1, round(FLAT_SHARE * batch)) if batch > 1 else 0
    return size, batch - flat, flat


def cut(image: Tensor, reference: Tensor, rng: random.Random) -> tuple[Tensor, Tensor]:
    """The same window at a random place of both images (B, 3, S, S)."""
    side = window(image.shape[-1])
    top, left = (rng.randint(0, image.shape[-1] - side) for _ in range(2))
    one, other = (x[:, :, top : top + side, left : left + side] for x in (image, reference))
    return one, other


class Objective:
    """Losses and adversaries of a run. Without networks there is nothing but the losses on pixels."""

    def __init__(
        self, networks: Networks | None, options: RunOptions, weights: LossWeights, adversarial_after: float
    ) -> None:
        self.weights, self.adversarial_after = weights, adversarial_after
        self.adversaries, self.patterns = Adversaries(options.device), Patterns(options.device)
        self.perceptual: PerceptualLosses | None = None
        if networks is not None:
            dtype = torch.bfloat16 if uses_bfloat16(options.device) else torch.float32
            self.perceptual = PerceptualLosses(networks.converted(dtype).to(options.device), options.compiled)

    @property
    def companions(self) -> dict[str, Stateful]:
        """What learns beside the decoder, and is saved with it."""
        return {"adversaries": self.adversaries, "patterns": self.patterns}

    def start_from(self, folder: Path) -> None:
        """Let the adversaries go on from what they learned in another run, if its folder says it."""
        if (folder / ADVERSARIES).is_file():
            self.adversaries.start_from(folder / ADVERSARIES)
            print(f"adversaries go on from {folder / ADVERSARIES}")

    def save(self, folder: Path) -> None:
        """Keep what the adversaries have learned, if there were any, for another run."""
        if self.perceptual is not None:
            self.adversaries.save(folder)

    def _adversarial(self, progress: float) -> float:
        """The share of their weight that the adversaries have, 0..1."""
        if self.adversaries.warm:
            return 1.0
        return min(1.0, max(0.0, progress - self.adversarial_after) / RAMP)

    def gradient(self, run: Run, made: Tensor, photographs: Tensor, flat: int) -> Tensor:
        """Return the gradient for ``made`` (B, 3, S, S), the last ``flat`` of which are of single colours.

        Networks do not look at those: to them, all that is nearly flat is alike, and to DISTS nothing is. Notes all
        terms in ``run``, and lets the adversaries learn.
        """
        image = made.detach().float().requires_grad_()
        with run.timer("losses"):
            count = len(image) - flat
            terms = pixel_terms(image, photographs) | {"pattern": self.patterns.distance(image, photographs)}
            if flat:
                terms["flat"] = flat_distance(image[count:], photographs[count:])
            if self.perceptual is None:
                return self._finish(run, image, terms)
            seen, reference = cut(image[:count], photographs[:count], run.rng)
            with torch.no_grad():
                real = self.perceptual.features(reference)
            features = self.perceptual.features(seen)
            terms |= self.perceptual(features, real)
        share = self._adversarial(run.progress)
        if share:
            with run.timer("adversaries"), run.precision():
                judged = self.adversaries.generator_losses(features)
                terms |= {name: share * term for name, term in judged.items()}
        with run.timer("losses"):
            gradient = self._finish(run, image, terms)
        if share:
            with run.timer("adversaries"), run.precision():
                run.note(adversaries=self.adversaries.learn(real, features, run.pace))
        return gradient

    def _finish(self, run: Run, image: Tensor, terms: dict[str, Tensor]) -> Tensor:
        (gradient,) = torch.autograd.grad(self.weights.total(terms), image)
        run.note(**terms)
        return gradient
