"""Recipe of images of a single colour: the pixel decoder learns to leave them flat, and to paint all else as before.

Such an image becomes a field of equal tokens, and a decoder that has learned from photographs paints what it knows of
that token over and over: a pattern of 16 pixels. What it makes of photographs is to stay, so the decoder that the run
began with is its teacher there, while other losses make fields flat.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from uigc.bench.metrics import Networks
from uigc.export.modules.checkpoint import load_tokenizer
from uigc.export.modules.interface import VQTokenizer
from uigc.export.modules.tokenizer import Tokenizer
from uigc.runtime.errors import InputError
from uigc.training.decoder import draw_mixed, encoded, keep, prepare, subject_of
from uigc.training.fields import WEIGHTS, Fields, Flatness
from uigc.training.loop import Run, RunOptions
from uigc.training.optimizers import Rates, mixed
from uigc.training.photos import Photos
from uigc.training.tokenizer import halves, report

RATES = Rates(muon=0.002, adamw=3e-4)
REGENERATED = 200  # photographs; fewer than where there is something to be learned from them


class Teacher:
    """The decoder that a run began with, saved with it, and how far another is from it."""

    def __init__(self, decoder: nn.Module, compiled: bool) -> None:
        # With gradients, which nobody asks for: compiled as the decoder that learns is, it makes the same bits of the
        # same weights. Without them, what torch.compile (2.13) makes of it in bfloat16 on a CPU returns NaN.
        self.decoder = copy.deepcopy(decoder).requires_grad_(True)
        self._paint = torch.compile(self.decoder, dynamic=False) if compiled else self.decoder

    def state_dict(self) -> dict[str, Any]:
        return self.decoder.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.decoder.load_state_dict(state)

    def distance(self, images: Tensor, codewords: Tensor) -> Tensor:
        """Mean absolute plus root mean square difference of images (B, 3, 16h, 16w) from what it paints of codewords
        (B, dim, h, w): a scalar. To be called in the precision in which the images were painted."""
        error = images.float() - self._paint(codewords).detach().float()
        return error.abs().mean() + (error.square().mean() + 1e-12).sqrt()

    def change(self, images: Tensor, codewords: Tensor) -> float:
        """Root mean square difference of images (n, 3, 16h, 16w) in [0, 1] from what it paints of codewords
        (n, dim, h, w), in levels of 255."""
        with torch.no_grad():
            return 255 * float((images - self.decoder(codewords).clamp(0, 1)).square().mean().sqrt())


def train(options: RunOptions, size: int, networks: Networks | None, regenerated: float = 0.0) -> None:
    """Train the decoder of the tokenizer in ``options.output`` and write it back there; log to ``flat.jsonl``.

    ``networks``: for the reports alone; ``regenerated``: as in the recipe ``decoder``. Raises :class:`InputError` for
    an imported tokenizer.
    """
    _check_local(load_tokenizer(options.output), options)
    photos, tokenizer, prior, made = prepare(options, size, regenerated, REGENERATED)
    networks = networks.to(options.device) if networks else None
    teacher = Teacher(tokenizer.decoder, options.compiled)
    tokenizer.decoder.requires_grad_(True)
    subject = {**subject_of(tokenizer, prior, regenerated), "crop": size}
    optimizers = mixed(RATES, (tokenizer.decoder, 1.0))
    run = Run("flat", options, tokenizer.decoder, optimizers, subject, {"teacher": teacher})
    flatness = Flatness(tokenizer, Fields.of(tokenizer, teacher.decoder))
    encode, decode = halves(tokenizer, options.compiled)
    for _ in run.reporting("crops", lambda final: _report(run, tokenizer, teacher, photos, networks, size)):
        with run.timer("data"):
            images, others = draw_mixed(photos, made, regenerated, options.batch, size, run.rng)
        _, codewords = encoded(tokenizer, encode, run, others, images)
        with run.timer("decoder"):
            with run.precision():
                distance = teacher.distance(decode(codewords), codewords)
            distance.backward()  # type: ignore[no-untyped-call]
        with run.timer("fields"):  # in float32, which tells half a level from none
            terms = flatness.terms(run.rng)
            torch.stack([WEIGHTS[name] * term for name, term in terms.items()]).sum().backward()  # type: ignore[no-untyped-call]
        run.descend(len(codewords), teacher=distance, **terms)
    if run.completed:
        keep(run, tokenizer)
        run.conclude()


def _check_local(tokenizer: VQTokenizer, options: RunOptions) -> None:
    if not isinstance(tokenizer, Tokenizer):
        raise InputError(
            f"The decoder in {options.output} is of the kind {tokenizer.config.kind!r}, whose pixels depend on the "
            "whole image; train it with the recipe 'decoder', which knows images of a single colour, too."
        )


def _report(
    run: Run, tokenizer: VQTokenizer, teacher: Teacher, photos: Photos, networks: Networks | None, size: int
) -> None:
    images, tokens = report(run, tokenizer, photos, networks, size)
    run.report(held_out_change=round(teacher.change(images, tokenizer.quantizer.look_up(tokens)), 2))
