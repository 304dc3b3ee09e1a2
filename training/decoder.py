"""Recipe of the pixel decoder alone: tokens stay what they are, so a prior that was trained on them stays valid."""

from __future__ import annotations

from dataclasses import replace

import torch

from uigc.bench.metrics import Networks
from uigc.export.modules.checkpoint import load_tokenizer, save_tokenizer, token_fingerprint
from uigc.training import tokenizer as tokenizer_recipe
from uigc.training.adversary import Adversary
from uigc.training.loop import Run, RunOptions, mixed_precision
from uigc.training.photos import Photos, crops
from uigc.training.tokenizer import Loss, LossWeights, halves, report

LEARNING_RATE = 3e-4
ADVERSARIAL_AFTER = 0.05
# With the tokens fixed, more of the gradient may go into how the picture looks.
WEIGHTS = replace(tokenizer_recipe.WEIGHTS, lpips=1.0)


def train(options: RunOptions, size: int, networks: Networks | None, weights: LossWeights = WEIGHTS) -> None:
    """Fine-tune the decoder of ``options.out``'s tokenizer and write it back there; log in ``decoder.jsonl``."""
    torch.manual_seed(options.seed)
    device = options.device
    photos = Photos(options.photos, device, size, options.photo_limit)
    tokenizer = load_tokenizer(options.out).to(device)
    tokenizer.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    tokenizer.requires_grad_(False)
    tokenizer.decoder.requires_grad_(True)
    loss = Loss(networks.to(device) if networks else None, weights)
    adversary = Adversary(device)
    subject: dict[str, object] = {"tokens": token_fingerprint(tokenizer)}
    run = Run("decoder", options, tokenizer.decoder, LEARNING_RATE, subject, {"adversary": adversary})
    encode, decode = halves(tokenizer, options.compiled)
    checked = run.progress
    for _ in run.steps(options.batch, "images"):
        batch = crops(photos.training, options.batch, size, run.rng).contiguous(memory_format=torch.channels_last)
        with torch.no_grad():  # in float32, as the exported encoder chooses them
            words = tokenizer.quantizer.look_up(tokenizer.quantizer.assign(encode(batch)))
        with mixed_precision(device):
            back = decode(words).float()
            judged = loss(back, batch, adversary=adversary if run.progress > ADVERSARIAL_AFTER else None)
        run.optimize(judged.total, **judged.figures)
        if "adversarial" in judged.figures:
            run.note(discriminator=adversary.learn(judged.real, judged.made))
        if run.progress - checked >= 0.1:
            checked = run.progress
            report(run, tokenizer, photos, networks, size)
    if not run.completed:
        return
    report(run, tokenizer, photos, networks, size)
    state = tokenizer.state_dict()
    state.update({f"decoder.{name}": value for name, value in run.average.state.items()})
    save_tokenizer(options.out, state, tokenizer.config)
