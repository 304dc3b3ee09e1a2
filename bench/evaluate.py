"""``uigc evaluate``: rate and quality of codecs on a folder of images, one schema for all.

Rates are those of the bytes of the files. PSNR and MS-SSIM are always given; LPIPS and DISTS need ``--networks``, the
safetensors file that :mod:`uigc.bench.metrics` describes. ``docs/EVALUATION.md`` describes the JSON.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from uigc.bench import codecs
from uigc.bench.codecs import Uigc
from uigc.bench.figures import SCHEMA
from uigc.bench.metrics import DISTS, LPIPS, Networks, psnr
from uigc.bench.patterns import PERIODS, woven
from uigc.bench.peers import BaselineCodec, Coded, OutOfReach
from uigc.bench.result import machine
from uigc.runtime.cli.arguments import make_codec
from uigc.runtime.cli.failures import Failures
from uigc.runtime.cli.progress_line import ProgressLine, say
from uigc.runtime.errors import InputError
from uigc.runtime.io import files, image
from uigc.runtime.io.image_sources import images_in
from uigc.runtime.io.streams import show

SHORTEST_SIDE = 161  # pixels; windows of 11 have to fit into an image that was halved four times
BEST_PSNR = 100.0  # dB; of equal images, whose true figure JSON cannot hold
FIGURES = ("bpp", "bytes", "psnr", "ms_ssim", "lpips_alex", "lpips_vgg", "dists")


@dataclass(frozen=True)
class Record:
    """Figures of one image; ``bytes`` of the whole file; ``ms_ssim`` and ``patterns`` are None if it is too small."""

    picture: str
    width: int
    height: int
    bytes: int
    bpp: float
    psnr: float
    ms_ssim: float | None
    lpips_alex: float | None
    lpips_vgg: float | None
    dists: float | None
    patterns: dict[str, float] | None


class Yardstick:
    """The metrics, with the networks read once."""

    def __init__(self, networks: Path | None) -> None:
        self.fingerprint: str | None = None
        self._metrics: dict[str, LPIPS | DISTS] = {}
        self._reference, self._features = torch.zeros(0), dict[str, list[Tensor]]()
        if networks is not None:
            if not networks.is_file():
                raise InputError(f"There is no file {networks}; give --networks the weights of LPIPS and DISTS.")
            self.fingerprint = hashlib.sha256(networks.read_bytes()).hexdigest()
            weights = Networks(networks)
            self._metrics = {"lpips_alex": LPIPS(weights), "lpips_vgg": LPIPS(weights, "vgg"), "dists": DISTS(weights)}

    @torch.no_grad()
    def measure(self, picture: str, pixels: NDArray[np.uint8], coded: Coded) -> Record:
        """Return the figures of one image; ``pixels`` is the original, uint8 (H, W, 3)."""
        height, width = pixels.shape[:2]
        if coded.pixels.shape != pixels.shape:
            raise InputError(f"{picture} came back with the shape {coded.pixels.shape} instead of {pixels.shape}.")
        reference, back = to_tensor(pixels), to_tensor(coded.pixels)
        patterns, distances = woven(coded.pixels, pixels), self._distances(back, reference)
        return Record(
            picture,
            width,
            height,
            len(coded.data),
            round(8 * len(coded.data) / (width * height), 6),
            round(min(float(psnr(back, reference)), BEST_PSNR), 4),
            ms_ssim(back, reference),
            distances.get("lpips_alex"),
            distances.get("lpips_vgg"),
            distances.get("dists"),
            {str(period): round(value, 4) for period, value in patterns.items()} if patterns else None,
        )

    def _distances(self, back: Tensor, reference: Tensor) -> dict[str, float]:
        """Return the distance by each network; the original's features are computed once for all settings."""
        if not torch.equal(self._reference, reference):
            self._reference = reference
            self._features = {name: metric.features(reference) for name, metric in self._metrics.items()}
        return {
            name: round(float(metric.distance(metric.features(back), self._features[name])), 5)
            for name, metric in self._metrics.items()
        }


def ms_ssim(image: Tensor, reference: Tensor) -> float | None:
    """Return the MS-SSIM (Wang et al., Asilomar 2003) of images (1, 3, H, W) in [0, 1], as the mean of that of each
    channel; None if a side is too short for its five scales.
    """
    import pytorch_msssim

    if min(image.shape[2:]) < SHORTEST_SIDE:
        return None
    # In single precision, variances of flat areas are off by enough to change the fourth digit.
    return round(float(pytorch_msssim.ms_ssim(image.double(), reference.double(), data_range=1.0)), 5)


def to_tensor(pixels: NDArray[np.uint8]) -> Tensor:
    """Convert uint8 (H, W, 3) to float32 (1, 3, H, W) in [0, 1]."""
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 255


def measure(
    paths: Sequence[Path],
    coder: BaselineCodec,
    yardstick: Yardstick,
    failures: Failures,
    quiet: bool = False,
    check_size: Callable[[int, int], None] | None = None,
) -> tuple[list[dict[str, Any]], dict[str, list[str]]]:
    """Return one entry for each setting of the codec: its figures of each image and their means; and the settings that
    are left out, with the names of the images that are why.

    An image that cannot be measured counts at no setting, and is one of the ``failures``. A rate that is out of reach
    for an image is left out, since its means would be of other images than those of the other settings.
    """

    records: dict[str, list[Record]] = {setting: [] for setting in coder.settings}
    left_out: dict[str, list[str]] = {}

    def records_of(path: Path) -> list[tuple[str, Record | OutOfReach]]:
        pixels = image.read(files.read_image(str(path)), None, check_size)
        return [
            (made.setting, made if isinstance(made, OutOfReach) else yardstick.measure(path.name, pixels, made))
            for made in coder.code(pixels)
            if isinstance(made, OutOfReach) or made.setting not in left_out
        ]

    with ProgressLine(quiet) as progress:
        for done, path in enumerate(paths):
            progress(coder.name, done, len(paths))
            for setting, record in failures.attempt(str(path), partial(records_of, path)) or []:
                if isinstance(record, OutOfReach):
                    left_out.setdefault(setting, []).append(path.name)
                else:
                    records[setting].append(record)
    if len(failures) == len(paths):
        failures.finish(len(paths))
    _leave_out(coder.name, records, left_out)
    return [_entry(coder, setting, of_setting) for setting, of_setting in records.items()], left_out


def _entry(coder: BaselineCodec, setting: str, records: list[Record]) -> dict[str, Any]:
    return {
        "codec": coder.name,
        "version": coder.version,
        "setting": setting,
        "means": means(records),
        "patterns": median_patterns(records),
        "pictures": [asdict(record) for record in records],
    }


def _leave_out(name: str, records: dict[str, list[Record]], left_out: dict[str, list[str]]) -> None:
    """Remove the settings that are left out, and say so; raise an error if none is left."""
    for setting, images in left_out.items():
        del records[setting]
        which = images[0] if len(images) == 1 else f"{images[0]} and {len(images) - 1} more"
        say(f"uigc: {setting} is left out: {name} makes no file that small of {which}; give a higher rate.")
    if not records:
        raise InputError("No setting is left to be measured; give a higher rate.")


def means(records: list[Record]) -> dict[str, float | None]:
    """Return the mean of each figure over the images; None where it was not measured."""
    values = {name: [getattr(record, name) for record in records] for name in FIGURES}
    return {name: None if None in each else round(float(np.mean(each)), 6) for name, each in values.items()}


def median_patterns(records: list[Record]) -> dict[str, float] | None:
    """Return the median over the images at each period; None if all are too small."""
    measured = [record.patterns for record in records if record.patterns is not None]
    if not measured:
        return None
    return {str(period): round(float(np.median([each[str(period)] for each in measured])), 4) for period in PERIODS}


def table(entries: list[dict[str, Any]]) -> str:
    """Return a table for the terminal, one row for each entry."""
    head = (
        f"{'codec':8}{'setting':12}{'bpp':>8}{'bytes':>9}{'PSNR dB':>9}{'MS-SSIM':>8}{'LPIPS':>8}{'VGG':>8}{'DISTS':>8}"
    )
    lines = [head + "".join(f"{f'weave {period}':>9}" for period in PERIODS)]
    for entry in entries:
        bpp, size, decibel, *distances = (entry["means"][name] for name in FIGURES)
        row = f"{entry['codec']:8}{entry['setting']:12}{bpp:8.4f}{size:9.0f}{decibel:9.2f}"
        row += "".join(f"{value:8.4f}" if value is not None else f"{'-':>8}" for value in distances)
        patterns = (entry["patterns"] or {}).get
        row += "".join(f"{value:9.2f}" if (value := patterns(str(period))) else f"{'-':>9}" for period in PERIODS)
        lines.append(row)
    return "\n".join(lines)


def _prior_lines(figures: dict[str, Any]) -> str:
    stages = " ".join(f"{bits:.2f}" for bits in figures["stage_bits_per_token"])
    return (
        f"prior {figures['id'][:8]}: {figures['bits_per_token']:.3f} bits a token (stages {stages}); order 0 "
        f"{figures['order0_bits_per_token']:.3f}, fixed {figures['fixed_bits_per_token']:.3f}; "
        f"{figures['words_used']} of {figures['words']} codewords used"
    )


def run(arguments: argparse.Namespace) -> None:
    """Measure, print the table, write the JSON, and raise an error if an image could not be measured."""
    if arguments.json:
        files.check_free(arguments.json, arguments.force)
    paths = images_in(arguments.folder)
    yardstick = Yardstick(arguments.networks)
    codec = make_codec(arguments) if arguments.codec == "uigc" else None
    coder = codecs.create(arguments.codec, arguments.setting, codec, arguments.effort)
    failures = Failures("the figures are those of the others")
    check = codec.limits.check if codec else None
    entries, left_out = measure(paths, coder, yardstick, failures, arguments.quiet, check)
    prior = coder.prior_figures() if isinstance(coder, Uigc) else None
    show(table(entries))
    if prior:
        show(_prior_lines(prior))
    if arguments.json:
        result = {
            "schema": SCHEMA,
            **machine(),
            "data_set": {"name": arguments.folder.resolve().name, "pictures": len(paths) - len(failures)},
            "networks": yardstick.fingerprint,
            "precisions": codec and {"prior": codec.precision, "pixels": codec.pixel_precision},
            "effort": arguments.effort if codec else None,
            "prior": prior,
            "left_out": left_out,
            "entries": entries,
        }
        files.write(arguments.json, (json.dumps(result, indent=1) + "\n").encode(), arguments.force)
    failures.finish(len(paths))
