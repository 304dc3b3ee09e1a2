"""The decoder for browsers in headless Chromium: ``python -m uigc.bench.browser web BUNDLE IMAGES --json FILE``.

``web`` is the folder of that name in a checkout, after ``npm install``; BUNDLE is what ``uigc export --decoder-only``
wrote. Every image is compressed under every mask, and Chromium decodes the files: its grids must be those of the
package, and its pixels are compared. The times are those that the page shows.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from uigc.bench.embedding import MASKS
from uigc.bench.result import machine, write
from uigc.runtime.arrays import Pixels
from uigc.runtime.codec import Codec
from uigc.runtime.errors import DependencyError, InexactError
from uigc.runtime.io import image
from uigc.runtime.token_codec import Encoded

SCHEMA = 1
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@contextmanager
def served(web: Path, bundle: Path, *options: str) -> Iterator[str]:
    """Serve the page as ``web/serve.py`` does, with its ``options``, and give its address."""
    command = [sys.executable, str(web / "serve.py"), "--port", "0", "--bundle", str(bundle), *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            yield server.stdout.readline().strip()
        finally:
            server.terminate()


def chromium() -> str | None:
    """Return the path of Chromium, where there is one."""
    return next(filter(None, map(shutil.which, BROWSERS)), None)


def decoded(web: Path, bundle: Path, threads: int, files: Sequence[Path], folder: Path) -> list[dict[str, Any]]:
    """Decode files in Chromium; return what ``many.js`` prints, and leave the pixels of each in the folder."""
    browser = chromium()
    if browser is None:
        raise DependencyError(f"There is no browser ({', '.join(BROWSERS)}), and one is needed; install Chromium.")
    with served(web, bundle) as address:
        command = ["node", web / "test" / "many.js", browser, address, threads, folder, *files]
        done = subprocess.run(list(map(str, command)), stdout=subprocess.PIPE, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def compare(found: Sequence[dict[str, Any]], wanted: Sequence[tuple[Encoded, Pixels]], folder: Path) -> dict[str, Any]:
    """Compare what Chromium decoded with grids and pixels; raises an :class:`InexactError` if grids differ."""
    largest, different, total, samples = 0, 0, 0, 0
    for number, (answer, (encoded, pixels)) in enumerate(zip(found, wanted, strict=True)):
        if answer["hash"] != hashlib.sha256(encoded.grid.astype("<i4").tobytes()).hexdigest():
            raise InexactError(f"Chromium decodes file {number} to another grid than the package; report this.")
        painted = np.fromfile(folder / str(number), np.uint8).reshape(*pixels.shape[:2], 4)[..., :3]
        apart = np.abs(painted.astype(np.int16) - pixels)
        largest, different = max(largest, int(apart.max())), different + int(np.count_nonzero(apart))
        total, samples = total + int(apart.sum()), samples + apart.size
    return {
        "files": len(wanted),
        "largest_difference": largest,
        "samples_that_differ": round(different / samples, 4),
        "mean_difference": round(total / samples, 4),
    }


def times(found: Sequence[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Return of stages, pixel decoder and both the milliseconds of the first file, and the median and the least of all
    others."""
    taken: dict[str, list[float]] = {"six stages": [], "pixel decoder": [], "together": []}
    for answer in found:
        laps = {lap["step"]: lap["milliseconds"] for lap in answer["times"]}
        painting, together = laps["pixel decoder"], sum(laps.values())
        for step, milliseconds in zip(taken, (together - painting, painting, together), strict=True):
            taken[step].append(milliseconds)
    return {
        step: {"first": round(each[0]), "median": round(float(np.median(each[1:]))), "least": round(min(each[1:]))}
        for step, each in taken.items()
    }


def table(result: dict[str, Any]) -> str:
    """Return the times in Markdown, as docs/WEB.md shows them."""
    lines = ["| threads | | first image | median of the others | least |", "|---|---|---|---|---|"]
    for row in result["runs"]:
        lines.append(f"| {row['threads']} | networks ready | {row['milliseconds'] / 1000:.1f} s | | |")
        for step, taken in row["times"].items():
            cells = " | ".join(f"{milliseconds / 1000:.2f} s" for milliseconds in taken.values())
            lines.append(f"| {row['threads']} | {step} | {cells} |")
    return "\n".join(lines)


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    paths = sorted(arguments.images.glob("*.png"))
    with tempfile.TemporaryDirectory() as name, Codec(pixel_precision="int8") as codec:
        folder, wanted = Path(name), []
        files: list[Path] = []
        for path in paths:
            pixels = image.read(path.read_bytes())
            tokens = codec.tokenize(pixels)
            for mask in MASKS:
                encoded = codec.encode_tokens(tokens, pixels, mask)
                wanted.append((encoded, codec.decompress(encoded.data)))
                files.append(folder / f"{len(files)}.uigc")
                files[-1].write_bytes(encoded.data)
        rows = []
        for threads in arguments.threads:
            ready, *found = decoded(arguments.web, arguments.bundle, threads, files, folder)
            rows.append({**ready, "agreement": compare(found, wanted, folder), "times": times(found)})
        prior = codec.bundle.prior_id.hex()
    downloaded = sum(file.stat().st_size for file in arguments.bundle.iterdir())
    return {"schema": SCHEMA, **machine(), "prior": prior, "bundle_bytes": downloaded, "masks": MASKS, "runs": rows}


def main(given: Iterable[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m uigc.bench.browser", description=__doc__)
    parser.add_argument("web", type=Path, metavar="WEB", help="the folder web/ of a checkout, after npm install")
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="bundle from uigc export --decoder-only")
    parser.add_argument("images", type=Path, metavar="IMAGES", help="folder of PNG images")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="one run for each (default: 1 2)")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    arguments = parser.parse_args(None if given is None else list(given))
    result = run(arguments)
    print(*(row["agreement"] for row in result["runs"]), table(result), sep="\n")
    if arguments.json:
        write(arguments.json, result)


if __name__ == "__main__":
    main()
