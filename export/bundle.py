"""Write a bundle: trace the graphs, share their weights, prove and compare them, and rename the folder into place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from uigc.export import calibrated, eight_bits
from uigc.export.byte_images import to_bytes
from uigc.export.modules.checkpoint import TrainedPrior
from uigc.export.modules.interface import VQTokenizer
from uigc.export.modules.prior import Prior
from uigc.export.modules.tokenizer import TRAINING_STATE, Tokenizer
from uigc.export.pixel_fp16 import to_fp16
from uigc.export.predictions import with_predictions
from uigc.export.proof import Domain, prove_file, token_domain
from uigc.export.receptive_field import halos
from uigc.export.stage_precisions import precision_variants
from uigc.export.trace import OPSET, Spec, TraceError, compare, is_stage, specs, trace
from uigc.export.weights import WeightStore, externalize, name_weights, resolve
from uigc.runtime.bundle import Bundle
from uigc.runtime.bundle import manifest as layout
from uigc.runtime.bundle.prior_id import prior_id
from uigc.runtime.bundle.safetensors import TensorFile
from uigc.runtime.bundle.seal import sealed
from uigc.runtime.errors import InputError, OutputError
from uigc.runtime.format.bitstream import PATCH
from uigc.runtime.format.entropy_coder import weight_table
from uigc.runtime.format.grid import stage_context
from uigc.runtime.io import folder

Log = Callable[[str], None]


@dataclass(frozen=True)
class ExportResult:
    """The folder of a written bundle, the id of its prior, and its size."""

    path: Path
    prior: bytes
    megabytes: float


def write_bundle(
    tokenizer: VQTokenizer,
    trained: TrainedPrior,
    out: Path,
    images: list[NDArray[np.uint8]],
    force: bool,
    log: Log,
    source: Bundle | None = None,
) -> ExportResult:
    """Export to the folder ``out``, which appears only if every graph agrees with its module.

    ``images``: uint8 (H, W, 3), on which graphs and modules are compared; ``force``: replace a bundle at ``out``;
    ``log`` receives a line for each step; ``source``: the bundle that the modules are from, whose calibrated graphs are
    kept.
    """
    _check_free(out, force)
    prior = trained.freeze_for(tokenizer)
    if not tokenizer.quantizer.ready:
        raise InputError("The tokenizer has no codebook yet; train it beyond the first third of its run.")
    _round_as_stored(tokenizer)
    with folder.complete(out) as working:
        identity = _Export(tokenizer, prior, trained.mask_table.numpy(), working, images, log).run(source)
    return ExportResult(out, identity, sum(file.stat().st_size for file in out.iterdir()) / 1e6)


def _check_free(out: Path, force: bool) -> None:
    if out.exists() and not force:
        raise OutputError(f"{out} exists; give --force to replace it, or another name.")
    if out.exists() and not (out / layout.MANIFEST).is_file():
        raise OutputError(f"{out} is not a bundle, so it is not replaced; remove it yourself, or give another name.")


def _round_as_stored(tokenizer: VQTokenizer) -> None:
    """Round the weights of the pixel networks to the precision in which the bundle stores them: half, and 8 bits for
    the largest kernels of our own decoder (``docs/BUNDLE.md`` says by how little that moves pixels).

    Graphs are then compared with modules that have the stored weights.
    """
    state = tokenizer.state_dict()
    rounded = {n: v.half().float() if v.is_floating_point() else v for n, v in state.items()}
    for name, value in state.items() if isinstance(tokenizer, Tokenizer) else ():
        if name.startswith("decoder.") and value.ndim == 4 and value.numel() >= eight_bits.SMALLEST:
            rounded[name] = torch.from_numpy(eight_bits.round_to_eight_bits(value.numpy()))
    tokenizer.load_state_dict(rounded)


class _Export:
    """One export into an empty folder."""

    def __init__(
        self,
        tokenizer: VQTokenizer,
        prior: Prior,
        mask_table: NDArray[np.int32],
        folder: Path,
        images: list[NDArray[np.uint8]],
        log: Log,
    ) -> None:
        self.tokenizer, self.prior, self.folder, self.log = tokenizer, prior, folder, log
        self.images = [_as_tensor(image) for image in images]
        self.tables = {layout.CODER_TABLE: weight_table(), layout.MASK_TABLE: mask_table.astype(np.int32)}
        self.parameters = {**_state("prior.", prior), **_state("tokenizer.", tokenizer)}
        self.store = WeightStore({**self.parameters, **self.tables})
        self.domain = token_domain(prior.config.pad)

    def run(self, source: Bundle | None) -> bytes:
        """Write all files of the bundle, with the calibrated graphs of ``source``, and return the prior's id."""
        # All graphs are traced before the first is written, because they refer to places in the shared weights.
        traced = [(spec, self._trace(spec)) for spec in specs(self.tokenizer, self.prior)]
        path = self.folder / layout.WEIGHTS
        path.write_bytes(self.store.serialize())
        file, weights = TensorFile(path), layout.file_entry(path)
        reach = halos(self.tokenizer)
        entries = {}
        for spec, models in traced:
            halo = {"halo": reach[spec.name]} if spec.name in reach else {}
            precisions = self._save(spec, models, file, weights["sha256"])
            entries[spec.name] = {**_interface(models["fp32"]), "precisions": precisions, **halo}
        identity = prior_id(
            sorted((name, array) for name, array in self.parameters.items() if name.startswith("prior.")),
            self.tables,
            self.prior.config.to_json(),
            self.prior.schedule.to_json(),
        )
        manifest = _manifest(self.tokenizer, self.prior, identity, entries, weights)
        if source is not None:
            self._keep_calibrated(source, file, manifest)
        (self.folder / layout.MANIFEST).write_bytes(sealed(manifest))
        return Bundle.load(self.folder).prior_id  # the runtime checks the bundle as it would for a user

    def _keep_calibrated(self, source: Bundle, file: TensorFile, manifest: dict[str, Any]) -> None:
        """Take over the calibrated graphs of ``source``, if they fit the weights, and list them in the manifest."""
        kept = calibrated.keep(source, self.folder, file)
        if kept is not None:
            graphs, manifest["calibration"] = kept
            for name, entry in graphs.items():
                manifest["graphs"][name]["precisions"]["int8"] = entry
        if "calibration" in source.manifest:
            self.log("kept the calibrated graphs" if kept else "left out the calibrated graphs: run uigc calibrate")

    def _trace(self, spec: Spec) -> dict[str, onnx.ModelProto]:
        """Return a graph in all its precisions, with its weights moved into the store."""
        self.log(f"tracing {spec.name}")
        model = trace(spec)
        name_weights(model, self.store)
        if is_stage(spec):
            table = self.tables[layout.CODER_TABLE]
            variants = precision_variants(model, self.domain)
            models = {name: with_predictions(variant, table) for name, variant in variants.items()}
        else:
            models = {"fp32": to_bytes(model), "fp16": to_bytes(to_fp16(model))}
        for variant in models.values():
            externalize(variant, spec.name, self.store)
        return models

    def _save(
        self, spec: Spec, models: dict[str, onnx.ModelProto], file: TensorFile, weights: str
    ) -> dict[str, dict[str, Any]]:
        """Write a graph in all its precisions, prove and compare them, and return their entries in the manifest."""
        inputs = self._inputs(spec)
        entries = {}
        for precision, model in models.items():
            resolve(model, file)
            path = self.folder / f"{spec.name}.{precision}.onnx"
            onnx.save(model, path)
            entry = {**layout.file_entry(path), "nodes": len(model.graph.node)}
            if is_stage(spec):
                entry["proof"] = _certificate(path, self.domain, entry["sha256"], weights, self.log)
            if _agrees(spec, path, inputs, precision, self.log):
                entries[precision] = entry
        return entries

    def _inputs(self, spec: Spec) -> list[Tensor]:
        """Return the inputs on which to compare a graph: its example, a batch of two, and real ones of other sizes."""
        if spec.name == "encoder":
            return [spec.example, *self.images]
        quantizer, encoder = self.tokenizer.quantizer, self.tokenizer.encoder
        with torch.no_grad():
            grids = [quantizer.assign(encoder(image)).to(torch.int32) for image in self.images]
        if spec.name == "decoder":
            return [spec.example, *grids]
        stage = int(spec.name.removeprefix("stage"))
        return [spec.example, *(_context(grid, self.prior, stage) for grid in grids)]


def _agrees(spec: Spec, path: Path, inputs: list[Tensor], precision: str, log: Log) -> bool:
    """Compare a graph with its module, and return True if they agree.

    Raises :class:`TraceError` if they do not; but if a pixel network fails in fp16 alone, because its numbers leave
    the range of half precision, its graph is removed and the other precisions remain.
    """
    log(f"comparing {path.name} with its module")
    try:
        compare(spec, str(path), inputs, precision)
    except TraceError as error:
        if precision != "fp16" or is_stage(spec):
            raise
        path.unlink()
        log(f"left out {path.name}, because half precision is too narrow for these weights: {error}")
        return False
    return True


def _state(prefix: str, module: nn.Module) -> dict[str, NDArray[Any]]:
    """Return the state of a module without the running sums that only training needs."""
    state = module.state_dict()
    return {prefix + name: value.numpy() for name, value in state.items() if name not in TRAINING_STATE}


def _as_tensor(image: NDArray[np.uint8]) -> Tensor:
    """uint8 (H, W, 3) -> float32 (1, 3, 16h, 16w) in [0, 1], cut off at the last whole token."""
    height, width = (side // PATCH * PATCH for side in image.shape[:2])
    return torch.from_numpy(image[:height, :width].copy()).permute(2, 0, 1)[None].float() / 255


def _context(grid: Tensor, prior: Prior, stage: int) -> Tensor:
    """Return a grid (1, h, w) as ``stage`` sees it: later stages unknown, padded to whole windows."""
    config = prior.config
    context = stage_context(grid.numpy(), stage, prior.schedule, config.window, config.unknown, config.pad)
    return torch.from_numpy(context)


def _certificate(path: Path, domain: Domain, graph: str, weights: str, log: Log) -> dict[str, Any]:
    """Prove a graph from its file; ``graph`` and ``weights`` are the hashes that go into its certificate."""
    proof = prove_file(path, domain)
    tightest = proof.tightest
    log(
        f"proved {path.name} exact: tightest is {tightest.operator} {tightest.node!r}, "
        f"{tightest.slack:.2f} of {tightest.limit:.0f} bits to spare ({tightest.kind})"
    )
    return {"graph": graph, "weights": weights, **proof.certificate(domain)}


def _interface(model: onnx.ModelProto) -> dict[str, Any]:
    """Return the names, types and shapes of a graph's inputs and outputs, for the manifest."""

    def describe(value: onnx.ValueInfoProto) -> dict[str, Any]:
        tensor = value.type.tensor_type
        shape = [dimension.dim_param or dimension.dim_value for dimension in tensor.shape.dim]
        dtype = str(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type))
        return {"name": value.name, "dtype": dtype, "shape": shape}

    return {
        "inputs": [describe(value) for value in model.graph.input],
        "outputs": [describe(value) for value in model.graph.output],
    }


def _manifest(
    tokenizer: VQTokenizer, prior: Prior, identity: bytes, graphs: dict[str, Any], weights: dict[str, Any]
) -> dict[str, Any]:
    config = prior.config
    return {
        "format": layout.FORMAT,
        "version": layout.VERSION,
        "patch": PATCH,
        "prior": {
            "id": identity.hex(),
            "codebook": config.codebook,
            "window": config.window,
            "unknown": config.unknown,
            "pad": config.pad,
            "config": config.to_json(),
        },
        "schedule": prior.schedule.to_json(),
        "tokenizer": tokenizer.config.to_metadata(),
        "opset": OPSET,
        "graphs": graphs,
        "weights": weights,
        "made_with": {"torch": torch.__version__.split("+")[0], "onnx": onnx.__version__},
    }
