"""What ONNX Runtime needs to run on an NVIDIA GPU: the libraries, a first session, and the options of each session."""

from __future__ import annotations

import contextlib
import ctypes
import io
import re
from functools import cache
from threading import Lock

import numpy as np

from uigc.runtime.bundle.graph_entry import GraphEntry
from uigc.runtime.environment import CUDA_DRIVER, cuda_works, gpu_names
from uigc.runtime.errors import ProviderError
from uigc.runtime.providers.guarded import first_line
from uigc.runtime.providers.library import import_onnxruntime

PROVIDER = "CUDAExecutionProvider"
FORKED = (
    "CUDA was used before this process was forked, where it cannot be used any more; use the start method 'spawn', or "
    "make the codec in the child alone"
)
# An ONNX graph, y = Conv(x, 1) of 1x1 pixels: the least that needs cuDNN besides CUDA.
CONVOLUTION = bytes.fromhex(
    "08083a630a0f0a01780a01771201792204436f6e761201672a130801080108010801100122040000803f4201775a1b0a0178"
    "12160a14080112100a0208010a0208010a0208010a020801621b0a017912160a14080112100a0208010a0208010a02"
    "08010a02080142040a00100d"
)

_ABSENT = re.compile(r"[\w.+-]+: cannot open shared object file")
_FAILED = re.compile(r"^Failed to load [^/\\\s]+: (.*)$", re.M)  # by its name; a path is followed by another attempt
_IN_VAIN = "Please follow https"
_PRINTING = Lock()  # standard output is the whole process's


class _Fault(Exception):
    """Why CUDA does not work here, and what to do, as half a sentence."""


@cache  # which remembers no exceptions: what is installed or plugged in later is found
def load_libraries() -> None:
    """Load CUDA and cuDNN from the packages that the extra installs, else from where the system looks for libraries.

    ONNX Runtime finds the packages' libraries only if they are loaded first. Raises :class:`_Fault` if one is missing.
    """
    preload = getattr(import_onnxruntime(), "preload_dlls", None)
    if preload is None:
        return
    said = io.StringIO()
    with _PRINTING, contextlib.redirect_stdout(said):  # it prints what it does not find
        preload()
    failed = _FAILED.findall(said.getvalue()) if _IN_VAIN in said.getvalue() else []
    if failed:
        raise _Fault(_missing(failed[-1]))


def problem(device: int = 0) -> str | None:
    """Return None if a session starts and runs on the GPU, else why not and what to do, as half a sentence."""
    try:
        ctypes.CDLL(CUDA_DRIVER)
    except OSError as error:
        return f"there is no NVIDIA driver ({error}); install one that knows CUDA 13, or use the provider 'cpu'"
    if not cuda_works():
        return FORKED
    try:
        _try(device)
    except _Fault as fault:
        return str(fault)
    return None


@cache
def _try(device: int) -> None:
    """Start a session on the GPU and run it; raises :class:`_Fault` if that fails."""
    load_libraries()
    onnxruntime = import_onnxruntime()
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 4
    chosen = [(PROVIDER, {"device_id": str(device)})] if device else [PROVIDER]
    try:
        session = onnxruntime.InferenceSession(CONVOLUTION, settings, providers=chosen, enable_fallback=0)
        offered = session.get_providers()
        if PROVIDER in offered:
            session.run(None, {"x": np.ones((1, 1, 1, 1), np.float32)})
    except Exception as error:  # onnxruntime raises a dozen unrelated types
        said = first_line(error)
        absent = _ABSENT.search(said)
        if absent:
            raise _Fault(_missing(absent[0])) from error
        raise _Fault(f"a first session fails ({said}); check driver and GPU with nvidia-smi") from error
    if PROVIDER not in offered:
        raise _Fault(f"onnxruntime offers {offered} instead; check the GPU with nvidia-smi")


def _missing(library: str) -> str:
    return f"a library of CUDA is missing ({library}); install it with: pip install 'uigc[gpu]'"


def check(index: int) -> None:
    """Raise a :class:`ProviderError` if there is no GPU of that number, or it does not work in this process."""
    if index and index >= len(gpu_names()):
        raise ProviderError(
            f"Device {index} was asked for, and this machine has {len(gpu_names())} GPUs, counted from 0; give another."
        )
    reason = problem(index)
    if reason:
        raise ProviderError(f"Device {index} cannot be used: {reason}.")


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
