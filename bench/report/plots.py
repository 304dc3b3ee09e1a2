"""Curves of rate against quality as inline SVG, whose colours are the page's (``page.css``)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from uigc.bench.figures import Figure, Point, frontier

WIDTH, HEIGHT = 560, 380
LEFT, RIGHT, TOP, BOTTOM = 58, 16, 40, 48  # margins
SHAPES = ("circle", "square", "triangle", "diamond", "bar", "down")
COLOURS = 8  # that page.css defines


@dataclass(frozen=True)
class Series:
    """All settings of one codec; ``number`` chooses its colour and its marks."""

    label: str
    number: int
    points: list[Point]


@dataclass(frozen=True)
class Axes:
    """The area of a plot: rates on a logarithmic scale, values on a linear one."""

    bpp: tuple[float, float]
    values: tuple[float, float]

    @classmethod
    def around(cls, points: Sequence[Point]) -> Axes:
        """Return axes with some room around all points."""
        rates, values = [point.bpp for point in points], [point.value for point in points]
        room = 0.06 * (max(values) - min(values)) or 0.05 * abs(values[0]) or 1
        return cls((min(rates) / 1.15, max(rates) * 1.15), (min(values) - room, max(values) + room))

    def x(self, bpp: float) -> float:
        low, high = map(math.log, self.bpp)
        return LEFT + (math.log(bpp) - low) / (high - low) * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        low, high = self.values
        return HEIGHT - BOTTOM - (value - low) / (high - low) * (HEIGHT - TOP - BOTTOM)


def plot(figure: Figure, series: Sequence[Series], anchors: Sequence[Point]) -> str:
    """Return a plot as SVG: a curve for each series through its best settings, its other settings as faint marks, and
    anchors, which are named by their ``setting``.
    """
    everything = [point for each in series for point in each.points] + list(anchors)
    axes = Axes.around(everything)
    better = "higher is better ↑" if figure.higher else "lower is better ↓"
    parts = [
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(figure.label)} against bits per pixel">',
        f'<text class="title" x="{LEFT}" y="20">{escape(figure.label)}</text>',
        f'<text class="note" x="{WIDTH - RIGHT}" y="20" text-anchor="end">{better}</text>',
        *_grid(axes),
        *(line for each in series for line in _curve(axes, figure, each)),
        *(_anchor(axes, figure, point) for point in anchors),
        "</svg>",
    ]
    return "\n".join(parts)


def _grid(axes: Axes) -> list[str]:
    bottom = HEIGHT - BOTTOM
    parts = []
    for rate in rate_ticks(*axes.bpp):
        x = axes.x(rate)
        parts.append(f'<path class="grid" d="M{x:.1f} {TOP}V{bottom}"/>')
        parts.append(f'<text class="tick" x="{x:.1f}" y="{bottom + 17}" text-anchor="middle">{rate:g}</text>')
    for value in value_ticks(*axes.values):
        y = axes.y(value)
        parts.append(f'<path class="grid" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/>')
        parts.append(f'<text class="tick" x="{LEFT - 7}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text class="note" x="{middle}" y="{HEIGHT - 8}" text-anchor="middle">bits per pixel</text>')
    return parts


def rate_ticks(low: float, high: float) -> list[float]:
    """Return 1, 2 and 5 times powers of ten in a range of rates; only the powers where that would be too many."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    steps = (1, 2, 5) if high / low < 3000 else (1,)
    ticks = [float(f"{step}e{power}") for power in powers for step in steps]
    return [tick for tick in ticks if low <= tick <= high]


def value_ticks(low: float, high: float) -> list[float]:
    """Return four to nine round values in a range."""
    rough = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= 0.999 * rough)
    first, last = math.ceil(low / step), math.floor(high / step)
    return [round(number * step, 10) for number in range(first, last + 1)]


def _curve(axes: Axes, figure: Figure, series: Series) -> list[str]:
    best = frontier(series.points, figure)
    line = " ".join(f"{axes.x(point.bpp):.1f},{axes.y(point.value):.1f}" for point in best)
    parts = [f'<g class="series s{series.number % COLOURS}">', f'<polyline points="{line}"/>']
    for point in series.points:
        text = f"{series.label} {point.setting}: {point.bpp:.4f} bpp, {figure.label} {figure.show(point.value)}"
        name = "best" if point in best else "other"
        shape = mark(series.number, axes.x(point.bpp), axes.y(point.value))
        parts.append(f'<g class="{name}">{shape}<title>{escape(text)}</title></g>')
    return [*parts, "</g>"]


def _anchor(axes: Axes, figure: Figure, point: Point) -> str:
    x, y = axes.x(point.bpp), axes.y(point.value)
    text = f"{point.setting}: {point.bpp:g} bpp, {figure.label} {figure.show(point.value)}"
    star = " ".join(
        f"{x + radius * math.sin(math.pi * corner / 5):.1f},{y - radius * math.cos(math.pi * corner / 5):.1f}"
        for corner, radius in enumerate((8.0, 3.4) * 5)
    )
    side = ("end", -12) if x > WIDTH / 2 else ("start", 12)
    return (
        f'<g class="anchor"><polygon points="{star}"/><title>{escape(text)}</title>'
        f'<text x="{x + side[1]:.1f}" y="{y + 4:.1f}" text-anchor="{side[0]}">{escape(point.setting)}</text></g>'
    )


def mark(number: int, x: float, y: float, size: float = 4.5) -> str:
    """Return the mark of a series, around a point."""
    shape, s = SHAPES[number % len(SHAPES)], size
    if shape == "circle":
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{s}"/>'
    corners = {
        "square": ((-s, -s), (s, -s), (s, s), (-s, s)),
        "triangle": ((0, -s - 1), (s + 1, s), (-s - 1, s)),
        "diamond": ((0, -s - 2), (s + 2, 0), (0, s + 2), (-s - 2, 0)),
        "bar": ((-s - 2, -2), (s + 2, -2), (s + 2, 2), (-s - 2, 2)),
        "down": ((0, s + 1), (s + 1, -s), (-s - 1, -s)),
    }[shape]
    return f'<polygon points="{" ".join(f"{x + dx:.1f},{y + dy:.1f}" for dx, dy in corners)}"/>'
