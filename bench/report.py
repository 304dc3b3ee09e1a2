"""The table of latencies in Markdown, and its place in a page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from uigc.bench.peer import MODELS

BEGIN, END = "<!-- latency -->", "<!-- /latency -->"


def table(result: dict[str, Any]) -> str:
    """A row a contender; times are medians, and the ratio is to our runtime as it is chosen by default."""
    lines = [
        "| size | batch | what | device | p50 | p95 | megapixels/s | time, ours = 1 |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for size in result["sizes"]:
        for row in size["rows"]:
            cells = [
                f"{size['width']}x{size['height']}",
                str(row["batch"]),
                _name(row),
                row["provider"],
                f"{row['p50_ms']:.1f} ms",
                f"{row['p95_ms']:.1f} ms",
                f"{row['megapixels_per_second']:.2f}",
                f"{row['ratio']:.2f}",
            ]
            lines.append(f"| {' | '.join(cells)} |")
    lines += [f"| | | {name} | absent | | | | |" for name in result["absent"]]
    note = f"{result['processor']}, {result['threads']} threads, {result['device'] or 'no GPU'}, {result['date']}."
    if result["compressai"]:
        note += " CompressAI's models have random weights, which does not change their time."
    return "\n".join([*lines, "", note])


def _name(row: dict[str, Any]) -> str:
    if row["runtime"] == "compressai":
        return f"CompressAI {row['model']} ({MODELS[row['model']]})"
    if row["runtime"] == "uigc":
        return f"uigc {row['precision']}"
    return {"torch eager": "PyTorch eager", "torch compile": "`torch.compile`"}[row["runtime"]]


def block(page: str) -> str:
    """What stands between the marks of a page."""
    return page.partition(BEGIN)[2].partition(END)[0].strip()


def fill(path: Path, result: dict[str, Any]) -> None:
    """Put the table between the marks of a page."""
    page = path.read_text(encoding="utf-8")
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"{path} has no {BEGIN} and {END}; write them where the table belongs.")
    path.write_text(f"{before}{BEGIN}\n{table(result)}\n{END}{after}", encoding="utf-8")
