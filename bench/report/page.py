"""The page: words and tables around plots and images. The files of HTML, CSS and JavaScript are its fixed parts."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path
from string import Template
from typing import Any

from uigc.bench.compare import compare, said
from uigc.bench.figures import QUALITY, Evaluation, Figure, Point
from uigc.bench.report.pictures import Comparison, Version
from uigc.bench.report.plots import COLOURS, Series, mark, plot

FOLDER = Path(__file__).parent
ROLES = {"original": "original", "ours": "uigc"}


def page(
    evaluations: Sequence[Evaluation], anchors: Sequence[dict[str, Any]], comparisons: Sequence[Comparison], peer: str
) -> str:
    """Return the page; ``peer`` is the name of the codec beside ours for readers."""
    plots = [_plot(figure, evaluations, anchors) for figure in QUALITY]
    parts = {
        "style": _fixed("page.css"),
        "script": _fixed("page.js"),
        "facts": _facts(evaluations),
        "legend": _legend(evaluations, anchors),
        "plots": "\n".join(filter(None, plots)),
        "table": _table(evaluations),
        "against": _against(evaluations),
        "pictures": _pictures(comparisons, peer),
    }
    return Template(_fixed("page.html")).substitute(parts)


def _fixed(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8")


def _facts(evaluations: Sequence[Evaluation]) -> str:
    first = evaluations[0]
    words = [f"{len(first.pictures)} images of “{escape(first.result['data_set']['name'])}”"]
    for each in evaluations:
        prior = (each.result.get("prior") or {}).get("id")
        told = f", prior {prior[:8]}" if prior else ""
        words.append(f"{escape(each.label)} {escape(str(each.entries[0]['version']))}{told}, {each.result['date']}")
    return "; ".join(words) + "."


def _plot(figure: Figure, evaluations: Sequence[Evaluation], anchors: Sequence[dict[str, Any]]) -> str:
    """Return the plot of one figure, nothing if no codec was measured by it."""
    series = [Series(each.label, number, each.points(figure)) for number, each in enumerate(evaluations)]
    series = [each for each in series if each.points]
    marked = [Point(each["label"], each["bpp"], each[figure.name]) for each in anchors if figure.name in each]
    return f'<div class="plot">{plot(figure, series, marked)}</div>' if series else ""


def _legend(evaluations: Sequence[Evaluation], anchors: Sequence[dict[str, Any]]) -> str:
    items = [
        f'<li class="s{number % COLOURS}"><svg viewBox="0 0 28 16" aria-hidden="true"><path d="M0 8H28"/>'
        f"{mark(number, 14, 8)}</svg>{escape(each.label)}</li>"
        for number, each in enumerate(evaluations)
    ]
    items += [
        f'<li class="literature"><span aria-hidden="true">★</span> {escape(each["label"])} '
        f"({escape(each['note'])}; source: {escape(each['source'])})</li>"
        for each in anchors
    ]
    return "\n".join(items)


def _table(evaluations: Sequence[Evaluation]) -> str:
    """Return the rows of all means."""
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in ("codec", "setting", "bpp", "bytes"))
    head += "".join(f'<th scope="col">{escape(figure.label)}</th>' for figure in QUALITY)
    rows = []
    for each in evaluations:
        for entry in sorted(each.entries, key=lambda entry: float(entry["means"]["bpp"])):
            means = entry["means"]
            cells = [each.label, entry["setting"], f"{means['bpp']:.4f}", f"{means['bytes']:.0f}"]
            cells += [figure.show(means.get(figure.name)) for figure in QUALITY]
            rows.append("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>")
    return f"<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody>"


def _against(evaluations: Sequence[Evaluation]) -> str:
    """Return the comparison of the first evaluation with each other one; nothing if it stands alone."""
    first, *others = evaluations
    if not others:
        return ""
    rows = []
    for pair in (compare(first, other) for other in others):
        least = pair.wins[0]
        names = [figure.name for figure in QUALITY]
        cells = [f"{least.setting}, {least.bpp:.4f} bpp", f"{least.small} of {pair.pictures}"]
        cells += ["-" if least.wins[name] is None else f"{least.wins[name]} of {pair.pictures}" for name in names]
        rows.append((f"{pair.b}, wins", cells))
        if any(pair.bd_rate.values()):
            savings = [(pair.bd_rate[figure.name], figure) for figure in QUALITY]
            words = ["-" if saving is None else said(saving, figure) for saving, figure in savings]
            rows.append((f"{pair.b}, BD-rate", ["", "", *words]))
    body = "".join(
        f'<tr><th scope="row">{escape(name)}</th>' + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>"
        for name, cells in rows
    )
    shown = "".join(f'<th scope="col">{escape(figure.label)}</th>' for figure in QUALITY)
    head = f'<th></th><th scope="col">its smallest files</th><th scope="col">no larger</th>{shown}'
    table = f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody>"
    return Template(_fixed("against.html")).substitute(first=escape(first.label), table=table)


def _pictures(comparisons: Sequence[Comparison], peer: str) -> str:
    if not comparisons:
        return ""
    figures = "\n".join(_picture(each, peer) for each in comparisons)
    return Template(_fixed("pictures.html")).substitute(peer=escape(peer), figures=figures)


def _picture(comparison: Comparison, peer: str) -> str:
    """Return one image in its three versions, with the slider and the figures below."""
    name, names = escape(comparison.name), {**ROLES, "peer": peer}
    images = "".join(
        f'<div class="version {each.role}"><img src="{each.source}" width="{comparison.width}" '
        f'height="{comparison.height}" alt="{name}, {escape(names[each.role])}">'
        f'<span class="tag">{escape(names[each.role])}</span></div>'
        for each in comparison.versions
    )
    rows = "".join(_row(each, names[each.role]) for each in comparison.versions)
    shown = "".join(f'<th scope="col">{escape(figure.label)}</th>' for figure in QUALITY)
    return (
        f'<figure id="{name}"><h3>{name}</h3>'
        f'<div class="stage" style="--width: {comparison.width}px">{images}'
        f'<input type="range" min="0" max="100" step="1" value="50" aria-label="Divider of {name}"></div>'
        f'<figcaption><table><thead><tr><th></th><th scope="col">bytes</th><th scope="col">bpp</th>{shown}'
        f"<th></th></tr></thead><tbody>{rows}</tbody></table></figcaption></figure>"
    )


def _row(version: Version, name: str) -> str:
    record = version.record
    if record is None:
        cells = [""] * (2 + len(QUALITY))
    else:
        cells = [str(record.bytes), f"{record.bpp:.4f}"]
        cells += [figure.show(getattr(record, figure.name, None)) for figure in QUALITY]
    body = "".join(f"<td>{cell}</td>" for cell in cells)
    return f'<tr><th scope="row">{escape(name)}</th>{body}<td class="how">{escape(version.how)}</td></tr>'
