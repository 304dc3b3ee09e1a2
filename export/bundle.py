"""Writing a bundle: trace, share weights, check against the modules, hash, and rename into place."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from uigc.export.modules.checkpoint import TrainedPrior, token_fingerprint
from uigc.export.modules.interface import VQTokenizer
from uigc.export.modules.prior import Prior
from uigc.export.pixel_fp16 import to_fp16
from uigc.export.proof import Domain, prove_file, token_domain
from uigc.export.receptive_field import halos
from uigc.export.stage_precisions import precision_variants
from uigc.export.trace import OPSET, Spec, TraceError, compare, is_stage, specs, trace
from uigc.export.weights import WeightStore, externalize, name_weights, resolve
from uigc.runtime.bundle import Bundle
from uigc.runtime.bundle import manifest as layout
from uigc.runtime.bundle.prior_id import prior_id
from uigc.runtime.bundle.safetensors import TensorFile
from uigc.runtime.errors import InputError, OutputError
from uigc.runtime.format.entropy_coder import weight_table

Say = Callable[[str], None]


@dataclass(frozen=True)
class Written:
    path: Path
    prior: bytes
    megabytes: float


def write_bundle(
    tokenizer: VQTokenizer, trained: TrainedPrior, out: Path, pictures: list[NDArray[np.uint8]], force: bool, say: Say
) -> Written:
    """Export to the folder ``out``; nothing is left there unless every graph agreed with its module.

    ``images``: uint8 (H, W, 3), on which graphs and modules are compared.
    """
    _check_free(out, force)
    prior = trained.prior.freeze()
    if prior.config.codebook != tokenizer.config.codebook:
        raise InputError(
            f"The prior predicts {prior.config.codebook} words and the tokenizer has {tokenizer.config.codebook}; "
            "train both in the same folder."
        )
    if trained.tokens not in (None, token_fingerprint(tokenizer)):
        raise InputError(
            "The prior was trained on the tokens of another tokenizer; train it again on this one, or give the one "
            "that it was trained on."
        )
    if not tokenizer.quantizer.ready:
        raise InputError("The tokenizer has no codebook yet; train it beyond the first third of its run.")
    _round_to_half(tokenizer)
    out.parent.mkdir(parents=True, exist_ok=True)
    working = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    try:
        written = _write(tokenizer, prior, trained.mask_table.numpy(), working, pictures, say)
        working.chmod(0o755)
        if out.exists():
            shutil.rmtree(out)
        working.rename(out)
    except BaseException:
        shutil.rmtree(working, ignore_errors=True)
        raise
    return Written(out, written, sum(file.stat().st_size for file in out.iterdir()) / 1e6)


def _check_free(out: Path, force: bool) -> None:
    if out.exists() and not force:
        raise OutputError(f"{out} exists; give --force to replace it, or another name.")
    if out.exists() and not (out / layout.MANIFEST).is_file():
        raise OutputError(f"{out} is no bundle, so it is not replaced; remove it yourself, or give another name.")


def _round_to_half(module: nn.Module) -> None:
    """Pixel networks ship in half precision; what is compared and measured is what ships."""
    state = module.state_dict()
    module.load_state_dict({n: v.half().float() if v.is_floating_point() else v for n, v in state.items()})


def _write(
    tokenizer: VQTokenizer,
    prior: Prior,
    mask_table: NDArray[np.int32],
    folder: Path,
    pictures: list[NDArray[np.uint8]],
    say: Say,
) -> bytes:
    tables = {layout.CODER_TABLE: weight_table(), layout.MASK_TABLE: mask_table.astype(np.int32)}
    parameters = {**_state("prior.", prior), **_state("tokenizer.", tokenizer)}
    store = WeightStore({**parameters, **tables})
    graphs = []
    domain = token_domain(prior.config.pad)
    for spec in specs(tokenizer, prior):
        say(f"tracing {spec.name}")
        model = trace(spec)
        name_weights(model, store)
        precisions = precision_variants(model, domain) if is_stage(spec) else {"fp32": model, "fp16": to_fp16(model)}
        for variant in precisions.values():
            externalize(variant, spec.name, store)
        graphs.append((spec, precisions))
    (folder / layout.WEIGHTS).write_bytes(store.serialize())
    file = TensorFile(folder / layout.WEIGHTS)
    weights = _file_entry(folder / layout.WEIGHTS)
    entries, reach = {}, halos(tokenizer)
    for spec, precisions in graphs:
        inputs = _inputs(spec, tokenizer, prior, pictures)
        entries[spec.name] = {**_interface(precisions["fp32"]), "precisions": {}}
        if spec.name in reach:
            entries[spec.name]["halo"] = reach[spec.name]
        for precision, model in precisions.items():
            resolve(model, file)
            path = folder / f"{spec.name}.{precision}.onnx"
            onnx.save(model, path)
            entry = {**_file_entry(path), "nodes": len(model.graph.node)}
            if is_stage(spec):
                entry["proof"] = _certificate(path, domain, entry["sha256"], weights["sha256"], say)
            if _agrees(spec, path, inputs, precision, say):
                entries[spec.name]["precisions"][precision] = entry
    identity = prior_id(
        sorted((name, array) for name, array in parameters.items() if name.startswith("prior.")),
        tables,
        prior.config.to_json(),
        prior.schedule.to_json(),
    )
    manifest = _manifest(tokenizer, prior, identity, entries, weights)
    (folder / layout.MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    return Bundle.load(folder).prior_id  # what was written is what the runtime takes


def _agrees(spec: Spec, path: Path, inputs: list[Tensor], precision: str, say: Say) -> bool:
    """Compare a graph with its module; raises if it is wrong, but where only half precision is too narrow for a pixel
    network's numbers, the graph is removed, and others remain."""
    say(f"comparing {path.name} with its module")
    try:
        compare(spec, str(path), inputs, precision)
    except TraceError as error:
        if precision != "fp16" or is_stage(spec):
            raise
        path.unlink()
        say(f"left out {path.name}, because half precision is too narrow for these weights: {error}")
        return False
    return True


def _state(prefix: str, module: nn.Module) -> dict[str, NDArray[Any]]:
    """What a module computes with: its state without the running sums that only training needs."""
    skipped = ("quantizer.sums", "quantizer.counts", "quantizer.fitted")
    state = module.state_dict()
    return {prefix + name: value.numpy() for name, value in state.items() if name not in skipped}


def _inputs(spec: Spec, tokenizer: VQTokenizer, prior: Prior, pictures: list[NDArray[np.uint8]]) -> list[Tensor]:
    """Real inputs of a graph at several sizes, and its example, which is a batch of two."""
    images = [_image(picture) for picture in pictures]
    if spec.name == "encoder":
        return [spec.example, *images]
    with torch.no_grad():
        grids = [tokenizer.quantizer.assign(tokenizer.encoder(image)).to(torch.int32) for image in images]
    if spec.name == "decoder":
        return [spec.example, *grids]
    return [spec.example, *(_context(grid, prior, int(spec.name.removeprefix("stage"))) for grid in grids)]


def _image(picture: NDArray[np.uint8]) -> Tensor:
    height, width = (side // layout.PATCH * layout.PATCH for side in picture.shape[:2])
    return torch.from_numpy(picture[:height, :width].copy()).permute(2, 0, 1)[None].float() / 255


def _context(grid: Tensor, prior: Prior, stage: int) -> Tensor:
    """A grid (1, h, w) as ``stage`` sees it: later stages unknown, padded to whole windows."""
    config = prior.config
    _, height, width = grid.shape
    down, right = -height % config.window, -width % config.window
    stages = torch.from_numpy(prior.schedule.stage_of(config.window, config.window))
    known = stages.repeat(-(-height // config.window), -(-width // config.window))[:height, :width] < stage
    context = torch.where(known, grid, config.unknown)
    return torch.nn.functional.pad(context, (0, right, 0, down), value=config.pad).to(torch.int32)


def _file_entry(path: Path) -> dict[str, Any]:
    return {"file": path.name, "bytes": path.stat().st_size, "sha256": layout.sha256(path)}


def _certificate(path: Path, domain: Domain, graph: str, weights: str, say: Say) -> dict[str, Any]:
    """Prove the graph as it lies on disk; ``graph`` and ``weights`` are the hashes that the certificate is for."""
    proof = prove_file(path, domain)
    tightest = proof.tightest
    say(
        f"proved {path.name} exact: tightest is {tightest.operator} {tightest.node!r}, "
        f"{tightest.slack:.2f} of {tightest.limit:.0f} bits to spare ({tightest.kind})"
    )
    return {"graph": graph, "weights": weights, **proof.certificate(domain)}


def _interface(model: onnx.ModelProto) -> dict[str, Any]:
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
        "patch": layout.PATCH,
        "prior": {
            "id": identity.hex(),
            "codebook": config.codebook,
            "window": config.window,
            "unknown": config.unknown,
            "pad": config.pad,
            "config": config.to_json(),
        },
        "schedule": prior.schedule.to_json(),
        "tokenizer": tokenizer.config.stated(),
        "opset": OPSET,
        "graphs": graphs,
        "weights": weights,
        "made_with": {"torch": torch.__version__.split("+")[0], "onnx": onnx.__version__},
    }
