"""The table of latencies in Markdown, and its place in a page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from uigc.bench.peer import MODELS

MARK = "latency"
ON_CPU = ("cpu", "openvino")
HEADS = ("size", "batch", "what", "device", "time, ours = 1", "p95 / p50", "p50", "megapixels/s")


def table(result: dict[str, Any]) -> str:
    """Return the table, with one row for each contender: its median time divided by that of our default codec, and its
    95th percentile divided by its median.

    Absolute times are given for GPUs only, because those of a CPU depend too much on the CPU.
    """
    rows = [_cells(size, row) for size in result["sizes"] for row in size["rows"]]
    rows += [("", "", name, "absent", "", "", "", "") for name in result["absent"]]
    shown = [column for column in range(len(HEADS)) if any(row[column] for row in rows)]
    lines = [" | ".join(row[column] for column in shown) for row in (HEADS, *rows)]
    lines = [f"| {lines[0]} |", "|---" * len(shown) + "|", *(f"| {line} |" for line in lines[1:])]
    note = f"{result['processor']}, {result['threads']} threads, {result['device'] or 'no GPU'}, {result['date']}."
    if result["compressai"]:
        note += " CompressAI's models have random weights, which does not change their time."
    if result.get("before"):
        note += f" uigc as it was before: with the prior {result['before']['prior'][:8]}."
    return "\n".join([*lines, "", note])


def _cells(size: dict[str, Any], row: dict[str, Any]) -> tuple[str, ...]:
    timed = row["provider"] not in ON_CPU
    return (
        f"{size['width']}x{size['height']}",
        str(row["batch"]),
        _name(row),
        row["provider"],
        f"{row['ratio']:.2f}",
        f"{row['p95_ms'] / row['p50_ms']:.2f}",
        f"{row['p50_ms']:.1f} ms" if timed else "",
        f"{row['megapixels_per_second']:.1f}" if timed else "",
    )


def _name(row: dict[str, Any]) -> str:
    if row["runtime"] == "compressai":
        return f"CompressAI {row['model']} ({MODELS[row['model']]})"
    if row["runtime"] == "uigc":
        return f"uigc {row['precision']}"
    names = {"torch eager": "PyTorch eager", "torch compile": "`torch.compile`", "uigc before": "uigc as it was before"}
    return names[row["runtime"]]


def block(page: str, mark: str = MARK) -> str:
    """Return the text between the marks of a page."""
    begin, end = _marks(mark)
    return page.partition(begin)[2].partition(end)[0].strip()


def fill(path: Path, result: dict[str, Any]) -> None:
    """Put the table of latencies between the marks of a page."""
    put(path, MARK, table(result))


def put(path: Path, mark: str, text: str) -> None:
    """Put a text between the marks ``<!-- mark -->`` and ``<!-- /mark -->`` of a page."""
    begin, end = _marks(mark)
    page = path.read_text(encoding="utf-8")
    before, found, rest = page.partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise SystemExit(f"{path} has no {begin} and {end}; write them where the table belongs.")
    path.write_text(f"{before}{begin}\n{text}\n{end}{after}", encoding="utf-8")


def _marks(mark: str) -> tuple[str, str]:
    return f"<!-- {mark} -->", f"<!-- /{mark} -->"
