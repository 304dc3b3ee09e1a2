"""Trace modules to ONNX, and compare the graphs with their modules."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from uigc.export import byte_images
from uigc.export.modules.interface import ImageToTokens, TokensToImage, VQTokenizer
from uigc.export.modules.prior import Prior, Stage
from uigc.export.predictions import LOGITS
from uigc.export.simplify import simplify
from uigc.runtime.errors import UigcError
from uigc.runtime.exactness.reference import with_sums
from uigc.runtime.format.bitstream import PATCH
from uigc.runtime.format.entropy_coder import weight_table
from uigc.runtime.providers.library import import_onnxruntime

onnxruntime = import_onnxruntime()

OPSET = 18
PIXEL_TOLERANCE = 1e-4  # for the worst pixel, and for a cosine, in fp32
HALF_PIXEL_TOLERANCE = 1 / 255  # for the mean, in fp16
HALF_COSINE_TOLERANCE = 0.02


class TraceError(UigcError):
    """An exported graph does not compute what its module computes."""


@dataclass(frozen=True)
class Spec:
    """One graph to export.

    ``example``: an input of ``module``; ``dynamic``: the dynamic dimensions of the input as {axis: (name, multiple)},
    each of at most ``largest`` multiples.
    """

    name: str
    module: nn.Module
    example: Tensor
    input: str
    output: str
    dynamic: Mapping[int, tuple[str, int]]
    largest: int = 4096


def specs(tokenizer: VQTokenizer, prior: Prior) -> list[Spec]:
    """Return the specs of the encoder, every stage and the decoder, in the order in which a file passes them."""
    window = prior.config.window
    grid = torch.randint(prior.config.codebook, (2, 2 * window, 3 * window), dtype=torch.int32)
    small = torch.randint(tokenizer.config.codebook, (2, 3, 5), dtype=torch.int32)
    windows = {0: ("batch", 1), 1: ("rows", window), 2: ("columns", window)}
    return [
        Spec(
            "encoder",
            ImageToTokens(tokenizer),
            torch.rand(2, 3, 3 * PATCH, 5 * PATCH),
            "image",
            "tokens",
            {0: ("batch", 1), 2: ("height", PATCH), 3: ("width", PATCH)},
        ),
        *(
            Spec(f"stage{k}", Stage(prior, k), grid, "tokens", LOGITS, windows, len(prior.others))
            for k in range(len(prior.schedule))
        ),
        Spec(
            "decoder",
            TokensToImage(tokenizer),
            small,
            "tokens",
            "image",
            {0: ("batch", 1), 1: ("rows", 1), 2: ("columns", 1)},
        ),
    ]


def is_stage(spec: Spec) -> bool:
    return isinstance(spec.module, Stage)


def trace(spec: Spec) -> onnx.ModelProto:
    """Return the simplified ONNX graph of a module, with dynamic dimensions and without traces of this machine."""
    dimensions = {}
    for axis, (name, multiple) in spec.dynamic.items():
        dimension = torch.export.Dim(name, min=1, max=spec.largest)
        dimensions[axis] = multiple * dimension if multiple > 1 else dimension
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            spec.module.eval(),
            (spec.example,),
            dynamo=True,
            opset_version=OPSET,
            input_names=[spec.input],
            output_names=[spec.output],
            dynamic_shapes=(dimensions,),
            verbose=False,
            custom_translation_table=_translations(spec),
        )
    if program is None:
        raise TraceError(f"PyTorch returned no graph for {spec.name}; check the versions of torch and onnxscript.")
    return _without_metadata(simplify(program.model_proto))


def _remainder(x: Any, divisor: Any) -> Any:
    """Translate a remainder; the exporter's own translation does not accept a size as the divisor."""
    from onnxscript import opset18

    return opset18.Mod(x, divisor)


def _quotient(x: Any, divisor: Any) -> Any:
    """Translate a quotient of integers that are not negative, which the proof checks; the exporter's own translation
    has eight nodes more, for other signs."""
    from onnxscript import opset18

    return opset18.Div(x, divisor)


def _translations(spec: Spec) -> dict[Any, Any]:
    quotient = {torch.ops.aten.floor_divide.default: _quotient} if is_stage(spec) else {}
    return {torch.ops.aten.remainder.Scalar: _remainder, **quotient}


def _without_metadata(model: onnx.ModelProto) -> onnx.ModelProto:
    """Remove the metadata in which the exporter keeps stack traces and file names."""
    graph = model.graph
    for part in [model, graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer]:
        part.ClearField("doc_string")
        if hasattr(part, "metadata_props"):
            part.ClearField("metadata_props")
    del graph.value_info[:]
    return model


def compare(spec: Spec, path: str, inputs: Sequence[Tensor], precision: str = "fp32") -> None:
    """Raise :class:`TraceError` unless ONNX Runtime and PyTorch agree on the inputs.

    Logits must be equal in every precision, and what a graph adds to them. In fp32, the planes that become pixels must
    be within 1e-4 and tokens equal up to near ties. In fp16, planes must be within 1/255 in the mean, and codewords
    have a cosine within 0.02 of the best. ``inputs`` are those of the module; images are rounded to bytes.
    """
    session = onnxruntime.InferenceSession(_with_planes(path), providers=["CPUExecutionProvider"])
    for value in inputs:
        given = value.numpy()
        if spec.input == byte_images.IMAGE:
            levels = torch.round(value * 255)
            value, given = levels / 255, levels.to(torch.uint8).permute(0, 2, 3, 1).numpy()
        with torch.no_grad():
            expected = spec.module(value).numpy()
        if is_stage(spec):
            expected = _predictions(expected, session.get_outputs()[0].name)
        found, *planes = session.run(None, {spec.input: given})
        if planes:
            problem = _difference(spec, value, expected, planes[0], precision == "fp16") or _unlike(found, planes[0])
        else:
            problem = _difference(spec, value, expected, found, precision == "fp16")
        if problem:
            raise TraceError(
                f"The exported graph {spec.name} {precision} differs from its module on an input of "
                f"{tuple(value.shape)}: {problem}; try other versions of torch and onnxscript."
            )


def _predictions(logits: NDArray[np.int32], output: str) -> NDArray[np.int32]:
    """Return what a stage's graph must return in its ``output`` for the logits of its module."""
    return logits if output == LOGITS else with_sums(logits, weight_table())


def _with_planes(path: str) -> bytes | str:
    """Return a graph that also returns the planes that its image is made from; another as it is."""
    model = onnx.load(path, load_external_data=False)
    if model.graph.output[0].name != byte_images.IMAGE:
        return path
    model = onnx.load(path)
    planes = onnx.helper.make_tensor_value_info(byte_images.PLANES, onnx.TensorProto.FLOAT, None)
    model.graph.output.append(planes)
    whole: bytes = model.SerializeToString()
    return whole


def _unlike(image: NDArray[np.generic], planes: NDArray[np.float32]) -> str | None:
    """Return how an image differs from its planes, rounded by NumPy, or None."""
    wanted = np.rint(planes * np.float32(255)).astype(np.uint8).transpose(0, 2, 3, 1)
    return None if np.array_equal(image, wanted) else "its image is not that of its planes in bytes"


def _difference(
    spec: Spec, value: Tensor, expected: NDArray[np.generic], found: NDArray[np.generic], half: bool
) -> str | None:
    """Return how the output of a graph differs from ``expected`` beyond the tolerance, or None."""
    if expected.shape != found.shape or expected.dtype != found.dtype:
        return f"{found.dtype} {found.shape} instead of {expected.dtype} {expected.shape}"
    if isinstance(spec.module, ImageToTokens):
        worst = _shortfall(spec.module, value, found)
        limit = HALF_COSINE_TOLERANCE if half else PIXEL_TOLERANCE
        return None if worst <= limit else f"a token's cosine is {worst} below the best"
    if isinstance(spec.module, TokensToImage):
        errors = np.abs(expected.astype(np.float64) - found.astype(np.float64))
        if half:
            return None if errors.mean() <= HALF_PIXEL_TOLERANCE else f"pixels are off by {errors.mean()}"
        return None if errors.max() <= PIXEL_TOLERANCE else f"a pixel is off by {errors.max()}"
    different = int((expected != found).sum())
    return f"{different} of {expected.size} logits and weights are different" if different else None


def _shortfall(module: ImageToTokens, image: Tensor, found: NDArray[np.generic]) -> float:
    """Return how far the worst chosen codeword is behind the best one; near ties may go either way in float."""
    with torch.no_grad():
        tokens = torch.from_numpy(found.astype(np.int64))
        return float(module.quantizer.shortfall(module.encoder(image), tokens).max())
