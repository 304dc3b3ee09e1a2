"""The model ``uigc`` of a Triton model repository: a file's bytes, uint8 (length), to its image, uint8 (h, w, 3), sRGB.

Triton's Python backend loads this file; ``uigc export --triton`` puts it there. It needs uigc in the backend's Python.
A file that is refused is an error of its own request: the name of its class, then the sentence.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import triton_python_backend_utils as backend

from uigc.runtime.codec import Codec
from uigc.runtime.errors import UigcError


class TritonPythonModel:
    """What the backend calls."""

    def initialize(self, args: dict[str, str]) -> None:
        """Open the bundle beside this file, as the model's parameters say."""
        found = json.loads(args["model_config"])["parameters"]
        options = {name: value["string_value"] for name, value in found.items()}
        self.codec = Codec(
            Path(__file__).parent / "bundle",
            provider=options["provider"],
            threads=int(options["threads"]),
            max_pixels=int(options["max_pixels"]),
        )

    def execute(self, requests: list[Any]) -> list[Any]:
        """Decode the files of all requests; those of one size go through the networks together."""
        tensors = [backend.get_input_tensor_by_name(request, "file") for request in requests]
        images = self.codec.decompress_many(tensor.as_numpy().tobytes() for tensor in tensors)
        return [self._response(image) for image in images]

    def _response(self, image: Any) -> Any:
        if isinstance(image, UigcError):
            return backend.InferenceResponse(error=backend.TritonError(f"{type(image).__name__}: {image}"))
        return backend.InferenceResponse(output_tensors=[backend.Tensor("image", image)])

    def finalize(self) -> None:
        """Close the codec."""
        self.codec.close()
