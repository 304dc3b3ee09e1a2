"""The real bindings of TensorRT 11, without TensorRT: they have all that ``engines/`` calls.

The wheel of the bindings needs the libraries of TensorRT, which only NVIDIA's own index has. They are made up here,
with functions that do nothing: enough to import the bindings, and to do nothing more.
"""

from __future__ import annotations

import ctypes
import importlib.util
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support.tensorrt_calls import BOTH, RTX, lacking

LIBRARIES = "libnvinfer.so.11", "libnvinfer_plugin.so.11", "libnvonnxparser.so.11"

found = importlib.util.find_spec("tensorrt_bindings")
if found is None or not found.submodule_search_locations:
    pytest.skip("tensorrt-cu13-bindings (uigc[test-gpu]) is not installed", allow_module_level=True)
if not shutil.which("gcc") or not shutil.which("nm"):
    pytest.skip("gcc and nm are needed to make the libraries", allow_module_level=True)
MODULE = Path(found.submodule_search_locations[0]) / "tensorrt.so"


@pytest.fixture(scope="module")
def trt(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("tensorrt")
    listed = subprocess.run(["nm", "-D", "--undefined-only", MODULE], capture_output=True, text=True, check=True)
    names = [line.split()[-1] for line in listed.stdout.splitlines() if line.split()[0] == "U"]
    wanted = [name for name in names if name.endswith("_INTERNAL") or name.startswith(("get", "init"))]
    assert "createInferBuilder_INTERNAL" in wanted
    code = "".join(f"void* {name}(void) {{ return 0; }}\n" for name in wanted if "@" not in name)
    for number, library in enumerate(LIBRARIES):
        (folder / "made.c").write_text(code if number == 0 else "")
        command = ["gcc", "-shared", "-fPIC", folder / "made.c", "-o", folder / library, f"-Wl,-soname,{library}"]
        subprocess.run(list(map(str, command)), check=True)
        ctypes.CDLL(str(folder / library), ctypes.RTLD_GLOBAL)
    return pytest.importorskip("tensorrt_bindings")


def test_every_call_of_the_engines_is_there(trt: Any) -> None:
    assert int(trt.__version__.split(".")[0]) == 11
    assert lacking(trt, BOTH) == []
    assert trt.nptype(trt.int32) is not None


def test_what_only_the_other_flavour_has_is_told_by_its_absence(trt: Any) -> None:
    """As ``engines/`` asks: by these two names, and nothing else of RTX is used without them."""
    assert not hasattr(trt, "CudaGraphStrategy")
    assert not hasattr(trt, "ComputeCapability")
    assert "CudaGraphStrategy.WHOLE_GRAPH_CAPTURE" in lacking(trt, RTX)
