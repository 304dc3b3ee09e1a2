"""``uigc doctor --tune``: which precision is the fastest on this machine, measured once and kept.

All precisions of the prior give the same logits, so that the choice changes how long a file takes and nothing else; it
is checked here once more. Those of the pixel networks give other pixels: only what the user allows is measured.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uigc.runtime import files, providers
from uigc.runtime.bundle import Bundle
from uigc.runtime.errors import InexactError
from uigc.runtime.providers import Graph, ProviderOptions
from uigc.runtime.stages import Progress

IGNORE = "UIGC_TUNED"
"""Environment variable: 0 leaves out what was measured."""
GRID = (32, 48)  # tokens of a 768x512 picture
ROUNDS = 7
PACKAGES = ("onnxruntime", "onnxruntime-gpu", "tensorrt-cu13", "tensorrt-rtx-cu13")


def cache_folder() -> Path:
    """Where this platform keeps what can be measured again."""
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local")) / "uigc" / "Cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "uigc"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "uigc"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _kept(bundle: Bundle, provider: str) -> Path:
    """The file of this machine, these packages, this provider and this bundle: any other measures for itself."""
    subject = [
        platform.system(), platform.machine(), _processor(), os.cpu_count(), provider,
        [_version(package) for package in PACKAGES], bundle.manifest,
    ]  # fmt: skip
    digest = hashlib.sha256(json.dumps(subject, sort_keys=True).encode()).hexdigest()
    return cache_folder() / f"tuned-{digest[:24]}.json"


def kept(bundle: Bundle, provider: str) -> dict[str, Any]:
    """What was measured: ``precision``, perhaps ``pixel_precision``, and ``milliseconds``; empty if nothing was, or if
    it is to be ignored."""
    if os.environ.get(IGNORE) == "0":
        return {}
    try:
        found = json.loads(_kept(bundle, provider).read_text(encoding="utf-8"))
    except (OSError, RuntimeError, ValueError):  # RuntimeError: no home folder
        return {}
    return found if isinstance(found, dict) else {}


def preferred(bundle: Bundle, provider: str, key: str, offered: Sequence[str], names: Sequence[str]) -> list[str]:
    """The precisions that a provider offers for the graphs ``names``; the measured one first, if all have it."""
    measured = kept(bundle, provider).get(key)
    if isinstance(measured, str) and all(measured in bundle.precisions(name) for name in names):
        return [measured, *offered]
    return list(offered)


def tune(bundle: Bundle, provider: str, pixels: Sequence[str], progress: Progress) -> dict[str, Any]:
    """Measure, keep and return the choice; ``pixels``: precisions of the pixel networks that are allowed."""
    from uigc.runtime.cases import context

    runner, options = providers.find(provider), ProviderOptions()
    grid = np.random.default_rng(0).integers(bundle.codebook, size=(1, *GRID), dtype=np.int32)
    stages = {f"stage{stage}": context(bundle, grid, stage, 0) for stage in range(len(bundle.schedule))}
    image = np.random.default_rng(1).random((1, 3, GRID[0] * bundle.patch, GRID[1] * bundle.patch), np.float32)

    def load(name: str, precision: str) -> Graph:
        return runner.load(bundle.graph(name, precision), options)

    exact = [name for name in bundle.precisions("stage0") if all(name in bundle.precisions(stage) for stage in stages)]
    times = _times(exact, stages, load, progress, equal=True)
    result: dict[str, Any] = {"precision": min(times, key=times.__getitem__), "milliseconds": times}
    both = [name for name in pixels if all(name in bundle.precisions(part) for part in ("encoder", "decoder"))]
    if both:
        pixel_times = _times(both, {"encoder": image, "decoder": grid}, load, progress, equal=False)
        result |= {"pixel_precision": min(pixel_times, key=pixel_times.__getitem__), "pixel_milliseconds": pixel_times}
    path = _kept(bundle, provider)
    path.parent.mkdir(parents=True, exist_ok=True)
    files.replace(path, lambda part: part.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8"))
    return result


def _times(
    precisions: Sequence[str],
    inputs: dict[str, NDArray[Any]],
    load: Callable[[str, str], Graph],
    progress: Progress,
    equal: bool,
) -> dict[str, float]:
    """Milliseconds that all graphs take in each precision: medians of turns, so that what else the machine does hits
    all alike."""
    total = dict.fromkeys(precisions, 0.0)
    for done, (name, value) in enumerate(inputs.items()):
        progress("tuning", done, len(inputs))
        graphs = {precision: load(name, precision) for precision in precisions}
        outputs = [graph(value) for graph in graphs.values()]  # and a warm-up
        if equal and not all(np.array_equal(output, outputs[0]) for output in outputs):
            raise InexactError(
                f"The precisions of {name} do not give the same logits on this machine, and they must; run "
                "'uigc verify' and report what it finds."
            )
        taken: dict[str, list[float]] = {precision: [] for precision in precisions}
        for _ in range(ROUNDS):
            for precision, graph in graphs.items():
                begun = time.perf_counter()
                graph(value)
                taken[precision].append(1e3 * (time.perf_counter() - begun))
        for precision, each in taken.items():
            total[precision] += float(np.median(each))
    progress("tuning", len(inputs), len(inputs))
    return {precision: round(milliseconds, 2) for precision, milliseconds in total.items()}
