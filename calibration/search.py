"""The search for the layers that may be int8: the cheapest range method, each layer's cost alone, the budget kept."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from uigc.calibration.graph import Scales, scale
from uigc.calibration.network import Array, Call, Network
from uigc.calibration.quality import Budget, Judge, Quality
from uigc.calibration.ranges import METHODS, Observed
from uigc.runtime.errors import BudgetError

Paint = Callable[[Call], list[Array]]
"""Returns the decoded images with one network replaced: the decoder, on fixed token grids, or the encoder, whose tokens
the float32 decoder then decodes."""
Progress = Callable[[str, int, int], None]
Ranges = Mapping[str, tuple[dict[str, float], dict[str, float]]]
"""For each layer, the ranges of its input and of its output, by method."""


@dataclass(frozen=True)
class Found:
    """The outcome of a search.

    ``methods``: the quality with all layers in int8, for each method that was tried. ``alone``: the quality with one
    layer in int8. ``left``: the layers left in half precision, the costliest first. ``quality``: the quality with
    ``scales``.
    """

    exact: Quality
    method: str
    methods: dict[str, Quality]
    alone: dict[str, Quality]
    left: list[str]
    quality: Quality
    scales: dict[str, Scales]
    ranges: Ranges


class Search:
    """The search for one network, which ``paint`` and ``judge`` measure."""

    def __init__(
        self, network: Network, observed: Mapping[str, tuple[Observed, Observed]], paint: Paint, judge: Judge,
        progress: Progress,
    ) -> None:  # fmt: skip
        self._network, self._paint, self._judge, self._progress = network, paint, judge, progress
        self._ranges: Ranges = {name: (one.ranges(), other.ranges()) for name, (one, other) in observed.items()}

    def run(self, budget: Budget, method: str | None = None) -> Found:
        """Measure, and leave layers in half precision until the budget is met; an error if none can be quantized.

        ``method`` is one of ``METHODS``, or None for the one whose images are most like those of float32.
        """
        network, names = self._network, [layer.name for layer in self._network.layers]
        exact = self._judge.fix(self._paint(network.full))
        methods = {}
        for number, each in enumerate([method] if method else METHODS):
            self._progress(f"{network.name}: methods", number, len(METHODS))
            methods[each] = self._measure(each, names)
        best = max(methods, key=lambda each: methods[each].likeness or 0)  # losses this small are mostly chance
        alone = {}
        for number, name in enumerate(names):
            self._progress(f"{network.name}: layers", number, len(names))
            alone[name] = self._measure(best, [name])
        left, quality = self._leave(budget, best, exact, methods[best], alone)
        kept = [name for name in names if name not in left]
        return Found(exact, best, methods, alone, left, quality, self._scales(best, kept), self._ranges)

    def _leave(
        self, budget: Budget, method: str, exact: Quality, quality: Quality, alone: Mapping[str, Quality]
    ) -> tuple[list[str], Quality]:
        """Return the costliest layers, as few as bring the rest into the budget, and the quality of the rest."""
        costliest = sorted(alone, key=lambda name: budget.share(exact, alone[name]), reverse=True)
        left: list[str] = []
        while budget.share(exact, quality) > 1:
            left.append(costliest[len(left)])
            if len(left) == len(costliest):
                raise BudgetError(
                    f"No layer of the {self._network.name} can be int8 at a loss of at most {budget.psnr} dB"
                    f"{'' if budget.lpips is None else f' and {budget.lpips} LPIPS'}; allow more, or use fp16."
                )
            self._progress(f"{self._network.name}: left in fp16", len(left), len(costliest))
            quality = self._measure(method, [name for name in alone if name not in left])
        return left, quality

    def _measure(self, method: str, names: Collection[str]) -> Quality:
        return self._judge.judge(self._paint(self._network.quantized(self._scales(method, names))))

    def _scales(self, method: str, names: Collection[str]) -> dict[str, Scales]:
        return {
            layer.name: Scales(scale(one[method]), scale(other[method]), layer.weight_scales)
            for layer in self._network.layers
            if layer.name in names
            for one, other in [self._ranges[layer.name]]
        }
