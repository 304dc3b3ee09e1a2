"""The optimizers of a module: Muon for its large convolutions and AdamW for the rest, or AdamW alone.

Muon (Jordan et al., 2024, https://kellerjordan.github.io/posts/muon/) replaces the momentum of a matrix by the nearest
orthogonal matrix, so that all directions of a layer learn equally fast. ``docs/TRAINING.md`` compares it with AdamW.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

NARROWEST = 32  # channels in and out; Muon brings nothing to thinner matrices


@dataclass(frozen=True)
class Rates:
    """Learning rates of the two optimizers at their highest."""

    muon: float
    adamw: float


def as_matrix(weight: Tensor) -> Tensor:
    """Return a convolution's (out, in, k, k) as (out, k * k * in), without a copy if the channels lie last.

    The order of the columns is of no consequence to orthogonalization.
    """
    return weight.permute(0, 2, 3, 1).flatten(1)


class Muon(torch.optim.Muon):
    """PyTorch's Muon, which takes matrices only, for convolutions.

    It trains matrices that share their memory with the weights, and are given the weights' gradients at each step. The
    weights must lie channels-last and stay where they are in memory.
    """

    def __init__(self, weights: Iterable[nn.Parameter], rate: float) -> None:
        self.weights = list(weights)
        matrices = [nn.Parameter(as_matrix(weight.detach())) for weight in self.weights]
        for matrix, weight in zip(matrices, self.weights, strict=True):
            if matrix.data_ptr() != weight.data_ptr():
                raise ValueError("Muon trains convolutions in place; bring the module to torch.channels_last first.")
        super().__init__(matrices, rate, weight_decay=0.01, momentum=0.95, nesterov=True, ns_steps=5)
        self.matrices = matrices

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        for matrix, weight in zip(self.matrices, self.weights, strict=True):
            matrix.grad = None if weight.grad is None else as_matrix(weight.grad)
        return super().step(closure)  # type: ignore[no-untyped-call]

    def zero_grad(self, set_to_none: bool = True) -> None:
        super().zero_grad(set_to_none)
        for weight in self.weights:
            weight.grad = None


class Optimizers:
    """Several optimizers that step together; their learning rates at their highest are those that they come with."""

    def __init__(self, **members: torch.optim.Optimizer) -> None:
        self.members = members
        for member in members.values():
            for group in member.param_groups:
                group["highest"] = group["lr"]

    def step(self, pace: float) -> None:
        """Take one step with ``pace``, 0..1, times the highest rates, and drop the gradients."""
        for member in self.members.values():
            for group in member.param_groups:
                group["lr"] = pace * group["highest"]
            member.step()
        self.zero_grad()

    def zero_grad(self) -> None:
        for member in self.members.values():
            member.zero_grad(set_to_none=True)

    def state_dict(self) -> dict[str, Any]:
        return {name: member.state_dict() for name, member in self.members.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name, member in self.members.items():
            member.load_state_dict(state[name])


def adamw(groups: Iterable[Any], rate: float) -> torch.optim.AdamW:
    return torch.optim.AdamW(groups, rate, betas=(0.9, 0.95), weight_decay=0.01)


def without(weights: Iterable[nn.Parameter], chosen: Iterable[nn.Parameter]) -> list[nn.Parameter]:
    """Return the weights that are not among the chosen ones."""
    known = set(map(id, chosen))
    return [weight for weight in weights if id(weight) not in known]


def mixed(rates: Rates, *parts: tuple[nn.Module, float]) -> Optimizers:
    """Optimizers for ``parts`` of a module, each with its share of the rates; frozen parameters are left out."""
    members: dict[str, torch.optim.Optimizer] = {}
    rest = []
    for index, (part, share) in enumerate(parts):
        weights = [weight for weight in part.parameters() if weight.requires_grad]
        wide = [weight for weight in weights if weight.ndim == 4 and min(weight.shape[:2]) >= NARROWEST]
        rest.append({"params": without(weights, wide), "lr": share * rates.adamw})
        if wide:
            members[f"muon{index}"] = Muon(wide, share * rates.muon)
    return Optimizers(adamw=adamw(rest, rates.adamw), **members)
