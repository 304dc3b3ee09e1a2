"""``uigc calibrate``: from a bundle and images to int8 graphs of encoder and decoder in the bundle."""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path

import numpy as np
import torch

from uigc.bench.metrics import LPIPS, Networks
from uigc.calibration import photographs, report
from uigc.calibration.graph import Scales
from uigc.calibration.network import Array, Call, Network
from uigc.calibration.quality import Budget, Judge
from uigc.calibration.search import Progress, Search
from uigc.calibration.store import Store, check_free, integer_convolutions
from uigc.runtime import providers
from uigc.runtime.bundle import Bundle
from uigc.runtime.cli.progress_line import ProgressLine
from uigc.runtime.errors import InputError, UigcError, UsageError
from uigc.runtime.io.streams import note, show


class StoredError(UigcError):
    """A written graph does not compute what was measured; a bug, in uigc or in a provider."""


LPIPS_GAIN = 0.005  # that a network may take, unless another is asked for


def budget_of(arguments: argparse.Namespace) -> Budget:
    """Return the budget that the options state; LPIPS counts unless ``--psnr-only`` is given."""
    if arguments.psnr_only:
        if arguments.networks or arguments.lpips_gain is not None:
            other = "--networks" if arguments.networks else "--lpips-gain"
            raise UsageError(f"--psnr-only and {other} contradict each other; give one of them.")
        budget = Budget(arguments.psnr_loss, None)
    elif arguments.networks is None:
        raise UsageError("LPIPS needs --networks, see docs/EVALUATION.md; give it, or --psnr-only to do without.")
    elif not arguments.networks.is_file():
        raise InputError(f"There is no file {arguments.networks}; give --networks the weights of LPIPS.")
    else:
        budget = Budget(arguments.psnr_loss, LPIPS_GAIN if arguments.lpips_gain is None else arguments.lpips_gain)
    if budget.psnr <= 0 or (budget.lpips is not None and budget.lpips <= 0):
        raise UsageError("A budget of nothing leaves nothing to quantize; give --psnr-loss and --lpips-gain above 0.")
    return budget


class Calibration:
    """The calibration of one bundle, on images to observe and others to measure."""

    def __init__(self, bundle: Bundle, threads: int | None, progress: Progress) -> None:
        self.encoder, self.decoder = (Network(bundle, name, threads) for name in ("encoder", "decoder"))
        self._progress = progress

    def grids(self, pictures: list[Array]) -> list[Array]:
        return [self.encoder.full(image) for image in pictures]

    def search(self, network: Network, observed: list[Array], measured: list[Array], judge: Judge) -> Search:
        """Return the search for the encoder or the decoder; both lists hold images uint8 (1, H, W, 3)."""
        covered: list[Array] = []
        if network is self.decoder:
            inputs, grids = self.grids(observed), self.grids(measured)
            covered = self.grids(photographs.single_colours(max(image.shape[1] for image in observed)))

            def paint(call: Call) -> list[Array]:
                return [call(grid) for grid in grids]
        else:
            inputs = observed

            def paint(call: Call) -> list[Array]:
                return [self.decoder.full(call(image)) for image in measured]

        total = len(inputs) + len(covered)
        done = iter(range(1, total + 1))

        def step() -> None:
            self._progress(f"{network.name}: ranges", next(done), total)

        return Search(network, network.observe(inputs, covered, step), paint, judge, self._progress)

    def same_tokens(self, scales: dict[str, Scales], pictures: list[Array]) -> float:
        """Return the share of tokens that the int8 encoder chooses as the float32 encoder does."""
        call = self.encoder.quantized(scales)
        return float(np.mean(np.concatenate([(call(x) == self.encoder.full(x)).ravel() for x in pictures])))


def run(arguments: argparse.Namespace) -> None:
    def say(text: str) -> None:
        if not arguments.quiet:
            note(text)

    budget = budget_of(arguments)
    if arguments.threads is not None:
        torch.set_num_threads(arguments.threads)
    bundle = Bundle.load(arguments.bundle)
    if not bundle.has_byte_images:
        raise InputError(
            f"{bundle.path} is a bundle of an earlier version, whose images are not bytes; export it again first: "
            f"uigc export {bundle.path} -o BUNDLE."
        )
    check_free(bundle, arguments.force)
    observed, measured = photographs.choose(arguments.images, arguments.observe, arguments.measure, say)
    seen, originals = ([photograph.pixels for photograph in some] for some in (observed, measured))
    judge = Judge(originals, LPIPS(Networks(arguments.networks)) if arguments.networks else None)
    with ProgressLine(arguments.quiet) as progress:
        calibration = Calibration(bundle, arguments.threads, progress)
        networks = calibration.encoder, calibration.decoder
        results = [
            calibration.search(network, seen, originals, judge).run(budget, arguments.method) for network in networks
        ]
    store, parts = Store(bundle), []
    for network, found in zip(networks, results, strict=True):
        entry = store.add_graph(network.name, network.written(found.scales))
        path = bundle.path / entry["file"]
        example = originals[0] if network is calibration.encoder else calibration.grids(originals[:1])[0]
        _check(path, example, network.quantized(found.scales)(example))
        same = calibration.same_tokens(found.scales, originals) if network is calibration.encoder else None
        parts.append(report.Part(network, found, entry, integer_convolutions(path), same))
    fingerprint = hashlib.sha256(arguments.networks.read_bytes()).hexdigest() if arguments.networks else None
    table = report.table(parts, budget, (len(observed), len(measured)))
    store.finish(report.data(parts, budget, observed, measured, fingerprint), table)
    Bundle.load(bundle.path)  # what was written is what the runtime takes
    show(table.rstrip("\n"))


def _check(path: Path, example: Array, wanted: Array) -> None:
    """Check that the graph in the bundle computes what was measured."""
    graph = providers.find("cpu").load(path, providers.ProviderOptions())
    if not np.array_equal(graph(example), wanted):
        raise StoredError(
            f"{path.name} does not compute what was measured; run 'uigc --debug calibrate' and report it."
        )
