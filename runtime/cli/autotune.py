"""``uigc doctor --tune``: measure which precisions and which provider are the fastest here, and make them the default.

All precisions of the prior give the same logits, which is checked here once more, so the choice changes only how long a
file takes. Precisions of the pixel networks, and providers, give other pixels: only those that the user names are
measured.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uigc.runtime import providers, tuning_cache
from uigc.runtime.bundle import Bundle
from uigc.runtime.codec import Codec
from uigc.runtime.errors import InexactError, ProviderError
from uigc.runtime.exactness.conformance import context
from uigc.runtime.io.samples import SAMPLE
from uigc.runtime.networks.byte_images import in_bytes
from uigc.runtime.progress import Progress
from uigc.runtime.providers import Graph, ProviderOptions

GRID = (32, 48)  # in tokens: a 768x512 image
ROUNDS = 7  # measurements of each, in turns


def tune(bundle: Bundle, provider: str, pixels: Sequence[str], progress: Progress, device: int = 0) -> dict[str, Any]:
    """Measure, store and return the choice.

    ``pixels``: the precisions that the pixel networks may take; ``device``: which of several GPUs, if it runs on one.
    """
    runner = providers.find(provider)
    device = providers.own_device(runner, device)
    options = ProviderOptions(device=device, ahead=True)
    kept_as = runner.measured_as(device)
    tuning_cache.write(bundle, kept_as, None)
    grid = np.random.default_rng(0).integers(bundle.codebook, size=(1, *GRID), dtype=np.int32)
    stages = {f"stage{stage}": context(bundle, grid, stage, 0) for stage in range(len(bundle.schedule))}
    height, width = (side * bundle.patch for side in GRID)
    image = np.random.default_rng(1).integers(256, size=(1, height, width, 3), dtype=np.uint8)

    def load(name: str, precision: str) -> Graph:
        return in_bytes(name, runner.load(bundle.graph(name, precision), options), bundle.has_byte_images)

    there = [name for name in bundle.precisions("stage0") if all(name in bundle.precisions(stage) for stage in stages)]
    exact = [name for name in there if name in runner.verified]
    if not exact:
        raise ProviderError(
            f"The provider {provider!r} runs stages in {' and '.join(runner.verified) or 'no precision'}, and the "
            f"bundle has them in {' and '.join(there)}; build or export what it needs."
        )
    times = _times(exact, stages, load, progress, equal=True)
    result: dict[str, Any] = {"precision": min(times, key=times.__getitem__), "milliseconds": times}
    both = [name for name in pixels if all(name in bundle.precisions(part) for part in bundle.pixel_graphs)]
    if both:
        given: dict[str, NDArray[Any]] = {"encoder": image, "decoder": grid}
        inputs = {name: given[name] for name in bundle.pixel_graphs}
        pixel_times = _times(both, inputs, load, progress, equal=False)
        result |= {"pixel_precision": min(pixel_times, key=pixel_times.__getitem__), "pixel_milliseconds": pixel_times}
    tuning_cache.write(bundle, kept_as, result)
    return result


def choose_provider(bundle: Bundle, names: Sequence[str], progress: Progress, device: int = 0) -> str:
    """Measure how long providers take to decode the sample photograph; store the fastest as default, and return it."""
    with ExitStack() as opened:
        devices = {name: providers.own_device(providers.find(name), device) for name in names}
        codecs = {name: opened.enter_context(Codec(bundle, provider=name, device=devices[name])) for name in names}
        with Codec(bundle) as codec:
            encoded = codec.encode(SAMPLE)
        for name, codec in codecs.items():
            try:
                codec.decompress(encoded.data)  # the warm-up; inexact tokens fail the file's check
            except InexactError as error:
                raise InexactError(f"The provider {name!r} is not chosen: {error}") from None
        taken: dict[str, list[float]] = {name: [] for name in codecs}
        for done in range(ROUNDS):
            progress("comparing providers", done, ROUNDS)
            for name, codec in codecs.items():
                begun = time.perf_counter()
                codec.decompress(encoded.data)
                taken[name].append(1e3 * (time.perf_counter() - begun))
        progress("comparing providers", ROUNDS, ROUNDS)
    times = {name: round(float(np.median(each)), 2) for name, each in taken.items()}
    fastest = min(times, key=times.__getitem__)
    tuning_cache.write_provider(bundle, fastest, times)
    return fastest


def _times(
    precisions: Sequence[str],
    inputs: dict[str, NDArray[Any]],
    load: Callable[[str, str], Graph],
    progress: Progress,
    equal: bool,
) -> dict[str, float]:
    """Return the milliseconds that all graphs take together in each precision.

    They are medians over rounds in which the precisions take turns, so that other work on the machine slows all alike.
    ``equal``: refuse precisions whose outputs differ.
    """
    total = dict.fromkeys(precisions, 0.0)
    for done, (name, value) in enumerate(inputs.items()):
        progress("tuning", done, len(inputs))
        graphs = {precision: load(name, precision) for precision in precisions}
        outputs = [graph(value) for graph in graphs.values()]  # also the warm-up
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
