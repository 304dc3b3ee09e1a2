"""Comparison of every provider, in every precision and setting, with the integer reference: ``uigc verify``."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any

from numpy.typing import NDArray

from uigc.runtime.bundle import Bundle
from uigc.runtime.environment import gpu_names, machine_name, package_versions
from uigc.runtime.errors import UigcError
from uigc.runtime.exactness import conformance
from uigc.runtime.exactness.conformance import Case
from uigc.runtime.progress import Progress
from uigc.runtime.providers import Graph, Provider, ProviderOptions, own_device

Compute = Callable[[NDArray[Any]], NDArray[Any]]


@dataclass(frozen=True)
class Outcome:
    """The numbers of predictions that were compared and that differed; ``error`` if the provider failed instead."""

    provider: str
    precision: str
    threads: int | None
    optimization: str
    values: int
    different: int
    error: str | None = None

    @property
    def setting(self) -> str:
        """Threads and optimization as the table's columns show them, such as ``2/extended``."""
        return f"{self.threads or 'default'}/{self.optimization}"


def compare(solved: Iterable[Case], load: Callable[[int], Compute]) -> tuple[int, int]:
    """Run the graphs of ``load(stage)`` on all cases; return how many numbers were compared and how many differ."""
    values = different = 0
    graphs: dict[int, Compute] = {}
    for case in sorted(solved, key=lambda case: case.stage):
        if case.stage not in graphs:
            graphs = {case.stage: load(case.stage)}  # one at a time: sessions hold copies of the weights
        found, wanted = graphs[case.stage](case.tokens), case.predictions
        values += wanted.size
        different += int((found != wanted).sum()) if found.shape == wanted.shape else wanted.size
    return values, different


def examine(
    bundle: Bundle, provider: Provider, precision: str, options: ProviderOptions, solved: list[Case]
) -> Outcome:
    """Run all cases on one provider in one precision under one setting."""

    def load(stage: int) -> Graph:
        return provider.load(bundle.graph(f"stage{stage}", precision), options)

    setting = provider.name, precision, options.threads, options.optimization
    try:
        return Outcome(*setting, *compare(solved, load))
    except UigcError as error:  # of a missing engine, too
        return Outcome(*setting, 0, 0, str(error))


def examine_all(
    bundle: Bundle, chosen: list[Provider], solved: list[Case], progress: Progress, device: int = 0
) -> list[Outcome]:
    """Run all cases in every precision of the bundle on every provider, under all of its settings.

    ``device``: which of several GPUs, for providers that run on one; the others run where they always do.
    """
    plan = [
        (provider, precision, options)
        for provider in chosen
        for precision in bundle.precisions("stage0")
        if precision in provider.verified
        for options in _on_device(provider, device)
    ]
    outcomes = []
    for done, (provider, precision, options) in enumerate(plan):
        progress(f"{provider.name} {precision}", done, len(plan))
        outcomes.append(examine(bundle, provider, precision, options, solved))
    return outcomes


def _on_device(provider: Provider, device: int) -> list[ProviderOptions]:
    return [replace(options, device=own_device(provider, device)) for options in provider.settings]


def matrix(outcomes: list[Outcome]) -> str:
    """Return the table of differing predictions: a row for each provider and precision, a column for each setting."""
    settings = list(dict.fromkeys(outcome.setting for outcome in outcomes))
    widths = [max(8, len(setting)) for setting in settings]
    head = f"{'provider':16}{'precision':11}{'values each':>14}  "
    lines = [head + "  ".join(f"{setting:>{width}}" for setting, width in zip(settings, widths, strict=True))]
    for provider, precision in dict.fromkeys((outcome.provider, outcome.precision) for outcome in outcomes):
        row = {o.setting: o for o in outcomes if (o.provider, o.precision) == (provider, precision)}
        values = max(outcome.values for outcome in row.values())
        cells = [f"{_cell(row.get(setting)):>{width}}" for setting, width in zip(settings, widths, strict=True)]
        lines.append(f"{provider:16}{precision:11}{values:>14,}  {'  '.join(cells)}")
    return "\n".join(lines)


def _cell(outcome: Outcome | None) -> str:
    if outcome is None:
        return "-"
    return "failed" if outcome.error else str(outcome.different)


def report(
    bundle: Bundle, outcomes: list[Outcome], windows: int, images: int, on_gpu: int | None = None
) -> dict[str, Any]:
    """Return the content of the JSON file; ``on_gpu``: which of several GPUs ran some of it, None if none did."""
    names = gpu_names() if on_gpu is not None else ()
    return {
        "prior": bundle.prior_id.hex(),
        "machine": machine_name(),
        "gpu": names[on_gpu] if on_gpu is not None and on_gpu < len(names) else None,
        "versions": package_versions(),
        "random_windows": windows,
        "pictures": images,
        "batches": list(conformance.BATCHES),
        "values": sum(outcome.values for outcome in outcomes),
        "different": sum(outcome.different for outcome in outcomes),
        "outcomes": [asdict(outcome) for outcome in outcomes],
    }
