"""The gradients of the prior: cross entropy on every stage, with the grids divided among threads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor

from uigc.export.modules.prior import Prior
from uigc.export.modules.quantized import quantized_once
from uigc.runtime.format.schedule import Schedule
from uigc.training.masks import draw_lost, gathered, stage_grid

MOST_THREADS = 8  # that compute beside each other, each on its part of the cores; how many pay is not measured

Share = list[tuple[Tensor, Tensor]]
"""For each stage, token grids and which of their tokens are lost."""


def stage_loss(prior: Prior, tokens: Tensor, lost: Tensor, stage: int) -> tuple[Tensor, int]:
    """Return the sum of cross entropies in nats over the asked tokens of ``stage``, padding excluded, and their
    number.
    """
    config, schedule = prior.config, prior.schedule
    hidden = (stage_grid(schedule, tokens) >= stage) | lost
    context = torch.where(hidden & (tokens != config.pad), config.unknown, tokens)
    logits = prior(context, stage) * prior.logit
    target = gathered(tokens, schedule.stages[stage], schedule.tile)
    target = torch.where(target == config.pad, -100, target)
    loss = F.cross_entropy(logits.flatten(0, 1), target.flatten(), reduction="sum", ignore_index=-100)
    return loss, int((target >= 0).sum())


@contextmanager
def short_products() -> Iterator[None]:
    """Let matrix products shorten their operands: to bfloat16 on CPUs that multiply it, to TF32 on GPUs.

    The operands of a dyadic prior have at most 8 bits, so its logits stay the same; its gradients are rounded. On CPUs
    with AMX a step takes two thirds of the time.
    """
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def threads_on(device: torch.device) -> int:
    """Return among how many threads the grids are divided."""
    return min(MOST_THREADS, torch.get_num_threads()) if device.type == "cpu" else 1


class Gradients:
    """Computes the gradients of the mean cross entropy; a context that ends its threads.

    A step consists of hundreds of short operations, in each of which all threads would wait for the slowest. So the
    grids of each stage are divided instead, among threads that share no operation.
    """

    def __init__(self, prior: Prior, threads: int) -> None:
        self.prior, self.threads = prior, threads
        self._weights = [weight for weight in prior.parameters() if weight.requires_grad]
        cores = max(1, torch.get_num_threads() // threads)
        self._pool = ThreadPoolExecutor(threads, "gradients", torch.set_num_threads, (cores,))

    def __enter__(self) -> Gradients:
        return self

    def __exit__(self, *error: object) -> None:
        self._pool.shutdown()

    def __call__(self, batches: Sequence[Tensor]) -> Tensor:
        """Give the weights their gradients and return the mean cross entropy in nats of the asked tokens.

        ``batches``: for each stage, token grids int64 (count, height, width) of whole windows.
        """
        schedule = self.prior.schedule
        shares = divided([(tokens, draw_lost(schedule, tokens)) for tokens in batches], schedule, self.threads)
        with quantized_once(self.prior):  # a float twin has nothing to quantize
            done = list(self._pool.map(self._of, shares)) if len(shares) > 1 else [self._of(shares[0])]
        nats, asked = torch.stack([nats for nats, _, _ in done]).sum(), sum(asked for _, asked, _ in done)
        for weight, *found in zip(self._weights, *(gradients for _, _, gradients in done), strict=True):
            known = [gradient for gradient in found if gradient is not None]
            weight.grad = sum(known[1:], start=known[0]) / asked if known else None
        return nats / asked

    def _of(self, share: Share) -> tuple[Tensor, int, tuple[Tensor | None, ...]]:
        """Return the nats of a share, the number of its asked tokens, and the gradients of the nats."""
        total, asked = torch.zeros((), device=share[0][0].device), 0
        for stage, (tokens, lost) in enumerate(share):
            if len(tokens):
                nats, number = stage_loss(self.prior, tokens, lost, stage)
                total, asked = total + nats, asked + number
        # The graph is kept, because all threads share that of the quantized weights.
        found = torch.autograd.grad(total, self._weights, retain_graph=True, allow_unused=True)
        return total.detach(), asked, found


def divided(whole: Share, schedule: Schedule, threads: int) -> list[Share]:
    """Divide the grids of all stages: the largest first, each to the thread with the least work so far.

    The work of a grid is the number of tokens that its stage computes on. No share is empty.
    """
    grids = [
        (tokens[0].numel() * len(schedule.active(stage)), stage, number)
        for stage, (tokens, _) in enumerate(whole)
        for number in range(len(tokens))
    ]
    work = [0] * min(threads, len(grids))
    chosen: list[list[list[int]]] = [[[] for _ in whole] for _ in work]
    for size, stage, number in sorted(grids, reverse=True):
        thread = work.index(min(work))
        work[thread] += size
        chosen[thread][stage].append(number)
    return [
        [(tokens[which], lost[which]) for (tokens, lost), which in zip(whole, mine, strict=True)] for mine in chosen
    ]
