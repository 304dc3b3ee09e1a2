"""``uigc evaluate --compare A.json B.json``: what A saves against B, and on how many images it wins.

The BD-rate (Bjontegaard, VCEG-M33, 2001) is the mean difference of the logarithm of the rate over the range of quality
that both curves reach, here between curves of means over the images, interpolated by piecewise cubic Hermite
polynomials (PCHIP). Curves are those of :func:`uigc.bench.figures.frontier`. Nothing is extrapolated.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from uigc.bench.figures import QUALITY, SCHEMA, Evaluation, Figure, Point, frontier, read_all
from uigc.runtime.io import files
from uigc.runtime.io.streams import show


@dataclass(frozen=True)
class Saving:
    """``percent``: how much more rate A needs than B for equal quality, below 0 if it needs less; None where the curves
    share no range of quality. ``low`` and ``high``: the range that they share. ``a`` and ``b``: the range of each.
    """

    percent: float | None
    low: float | None
    high: float | None
    a: tuple[float, float]
    b: tuple[float, float]


@dataclass(frozen=True)
class Wins:
    """A setting of B, with its mean rate. ``small``: the images of which A has a file of equal or fewer bytes.
    ``wins``: by figure, the images on which the best of these files is better than B's; None if one lacks the figure.
    """

    setting: str
    bpp: float
    small: int
    wins: dict[str, int | None]


@dataclass(frozen=True)
class Pair:
    """A against B on the same images; ``bd_rate`` by figure, None where fewer than two points were measured."""

    a: str
    b: str
    pictures: int
    bd_rate: dict[str, Saving | None]
    wins: list[Wins]


def compare(a: Evaluation, b: Evaluation) -> Pair:
    """Compare two evaluations of the same images."""
    savings = {figure.name: bd_rate(a.points(figure), b.points(figure), figure) for figure in QUALITY}
    rows = [_wins(a, entry) for entry in sorted(b.entries, key=lambda entry: float(entry["means"]["bpp"]))]
    return Pair(a.label, b.label, len(a.pictures), savings, rows)


def bd_rate(a: Sequence[Point], b: Sequence[Point], figure: Figure) -> Saving | None:
    """Return what A saves against B by one figure; None if either has fewer than two points on its curve."""
    import bjontegaard

    sign = 1 if figure.higher else -1  # the package takes higher values for better ones
    curves = [frontier(points, figure) for points in (a, b)]
    if min(map(len, curves)) < 2:
        return None
    rates = [[point.bpp for point in curve] for curve in curves]
    values = [[sign * point.value for point in curve] for curve in curves]
    low, high = max(each[0] for each in values), min(each[-1] for each in values)
    spans = [(curve[0].value, curve[-1].value) for curve in curves]
    if low >= high:
        return Saving(None, None, None, spans[0], spans[1])
    percent = bjontegaard.bd_rate(
        rates[1], values[1], rates[0], values[0], method="pchip", require_matching_points=False, min_overlap=0
    )
    shared = sorted((sign * low, sign * high))
    return Saving(round(float(percent), 2), shared[0], shared[1], spans[0], spans[1])


def _wins(a: Evaluation, entry: dict[str, Any]) -> Wins:
    """Count the images on which A wins against one setting of B."""
    ours: dict[str, list[dict[str, Any]]] = {name: [] for name in a.pictures}
    for other in a.entries:
        for record in other["pictures"]:
            ours[record["picture"]].append(record)
    fitting = [
        (record, [each for each in ours[record["picture"]] if each["bytes"] <= record["bytes"]])
        for record in entry["pictures"]
    ]
    measured = [*entry["pictures"], *(record for records in ours.values() for record in records)]
    wins = {
        figure.name: None
        if any(record.get(figure.name) is None for record in measured)
        else sum(
            any(figure.better(each[figure.name], record[figure.name]) for each in small) for record, small in fitting
        )
        for figure in QUALITY
    }
    return Wins(entry["setting"], entry["means"]["bpp"], sum(bool(small) for _, small in fitting), wins)


def lines(pair: Pair) -> list[str]:
    """Return the comparison as lines for the terminal."""
    made = [
        f"{pair.a} against {pair.b} on {pair.pictures} images",
        "",
        f"{'':18}BD-rate (below 0: {pair.a} needs less)",
    ]
    made += [f"{figure.label:18}{said(pair.bd_rate[figure.name], figure)}" for figure in QUALITY]
    head = "".join(f"{figure.name:>12}" for figure in QUALITY)
    made += ["", f"images on which {pair.a} wins with equal or fewer bytes, and those that have such a file (small)"]
    made.append(f"{pair.b[:20]:20}{'bpp':>8}{'small':>7}{head}")
    for row in pair.wins:
        counts = "".join(f"{'-' if count is None else count:>12}" for count in row.wins.values())
        made.append(f"{row.setting:20}{row.bpp:8.4f}{row.small:7}{counts}")
    return made


def said(saving: Saving | None, figure: Figure) -> str:
    """Return a saving in words."""
    if saving is None:
        return "not measured at two settings of each"
    if saving.percent is None or saving.low is None or saving.high is None:
        a, b = (" to ".join(map(figure.show, sorted(ends))) for ends in (saving.a, saving.b))
        return f"no overlap: {a} and {b}"
    return f"{saving.percent:+.1f} % between {figure.show(saving.low)} and {figure.show(saving.high)}"


def run(arguments: argparse.Namespace) -> None:
    """Compare the two files of ``--compare``; print the result, and write it as JSON if asked for."""
    if arguments.json:
        files.check_free(arguments.json, arguments.force)
    a, b = read_all(arguments.compare)
    pair = compare(a, b)
    show("\n".join(lines(pair)))
    if arguments.json:
        text = json.dumps({"schema": SCHEMA, **asdict(pair)}, indent=1) + "\n"
        files.write(arguments.json, text.encode(), arguments.force)
