"""What ONNX Runtime needs to run on an NVIDIA GPU: the libraries, a first session, and the options of each session."""

from __future__ import annotations

import contextlib
import ctypes
import io
import re
from functools import cache

import numpy as np

from uigc.runtime.bundle.graph_entry import GraphEntry
from uigc.runtime.environment import CUDA_DRIVER, gpu_names
from uigc.runtime.errors import ProviderError
from uigc.runtime.providers.library import import_onnxruntime

PROVIDER = "CUDAExecutionProvider"
# An ONNX graph, y = Conv(x, 1) of 1x1 pixels: the least that needs cuDNN besides CUDA.
CONVOLUTION = bytes.fromhex(
    "08083a630a0f0a01780a01771201792204436f6e761201672a130801080108010801100122040000803f4201775a1b0a0178"
    "12160a14080112100a0208010a0208010a0208010a020801621b0a017912160a14080112100a0208010a0208010a02"
    "08010a02080142040a00100d"
)

_ABSENT = re.compile(r"[\w.+-]+: cannot open shared object file")


@cache
def load_libraries() -> str | None:
    """Load CUDA and cuDNN from the packages that the extra installs, else from where the system looks for libraries.

    Returns None, or which library is missing. ONNX Runtime finds the packages' libraries only if they are loaded first.
    """
    said = io.StringIO()
    with contextlib.redirect_stdout(said):  # it prints what it does not find
        import_onnxruntime().preload_dlls()
    failed = [line for line in said.getvalue().splitlines() if line.startswith("Failed to load ")]
    return failed[-1].partition(": ")[2] if failed else None


@cache
def problem() -> str | None:
    """Return None if a session starts and runs on the first GPU, else why not and what to do, as half a sentence."""
    try:
        ctypes.CDLL(CUDA_DRIVER)
    except OSError as error:
        return f"there is no NVIDIA driver ({error}); install one that knows CUDA 13, or use the provider 'cpu'"
    missing = load_libraries()
    if missing:
        return _missing(missing)
    onnxruntime = import_onnxruntime()
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(CONVOLUTION, settings, providers=[PROVIDER], enable_fallback=0)
        if PROVIDER not in session.get_providers():
            return f"onnxruntime offers {session.get_providers()} instead; check the GPU with nvidia-smi"
        session.run(None, {"x": np.ones((1, 1, 1, 1), np.float32)})
    except Exception as error:  # onnxruntime raises a dozen unrelated types
        said = (str(error).strip() or type(error).__name__).splitlines()[0]
        absent = _ABSENT.search(said)
        if absent:
            return _missing(absent[0])
        return f"a first session fails ({said}); check driver and GPU with nvidia-smi"
    return None


def _missing(library: str) -> str:
    return f"a library of CUDA is missing ({library}); install it with: pip install 'uigc[gpu]'"


def check_index(index: int) -> None:
    """Raise a :class:`ProviderError` if there is no GPU of that number."""
    if index and index >= len(gpu_names()):
        raise ProviderError(
            f"Device {index} was asked for, and this machine has {len(gpu_names())} GPUs, counted from 0; give another."
        )


def session_options(entry: GraphEntry, device: int, captured: bool) -> dict[str, str]:
    """Return the options of a session for a graph.

    TF32 rounds operands to 11 bits: it is allowed where the proof shows that nothing is lost, as it is for engines.
    Convolutions in half precision run on tensor cores in NHWC only, and add their bias themselves; but an encoder of
    any size stays in NCHW, because in NHWC the sizes that it computes with would be put in order on the GPU, and be
    waited for. The arena grows by what is asked for, because every session has its own.
    """
    options = {
        "arena_extend_strategy": "kSameAsRequested",
        "use_tf32": str(int(entry.tf32_is_exact)),
    }
    if device:  # ONNX Runtime looks for a plugin of the device that is named, and warns that there is none
        options["device_id"] = str(device)
    if captured:
        options["enable_cuda_graph"] = "1"
    if not entry.is_stage and entry.precision == "fp16":
        options |= {"prefer_nhwc": str(int(captured or entry.graph == "decoder")), "fuse_conv_bias": "1"}
    return options
