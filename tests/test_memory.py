"""ONNX Runtime's memory: what large inputs took is given back, and the graphs of a process share it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from uigc.runtime.providers.onnx_runtime import _run_options

# The peak of a process that runs six stages one after the other on a grid of 3x3 windows of 16x16 tokens.
PEAK = """
import sys
import numpy as np
from uigc.runtime.providers import onnx_runtime
from uigc.runtime.bundle import Bundle
from uigc.runtime.providers import ProviderOptions

bundle = Bundle.load()
tokens = np.zeros((1, 96, 96), np.int32)
if sys.argv[1] == "apart":
    onnx_runtime._common_arena = lambda: False
    onnx_runtime._run_options = lambda value: None
graphs = [onnx_runtime.CPU.load(bundle.graph(f"stage{k}", "fp32"), ProviderOptions(1)) for k in range(6)]
for graph in graphs:
    graph(tokens)
print([line for line in open("/proc/self/status") if line.startswith("VmHWM")][0].split()[1])
"""


@pytest.mark.parametrize(
    ("shape", "large"),
    [((1, 48, 32), False), ((2, 64, 64), True), ((1, 3, 512, 768), False), ((1, 3, 1024, 1024), True)],
)
def test_the_arena_gives_back_what_large_inputs_took(shape: tuple[int, ...], large: bool) -> None:
    options = _run_options(np.empty(shape, np.int32 if len(shape) == 3 else np.float32))
    assert (options is not None) == large
    if large:
        assert options.get_run_config_entry("memory.enable_memory_arena_shrinkage") == "cpu:0"


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="the peak is read from Linux's /proc")
def test_stages_in_turn_take_hardly_more_than_the_largest_alone() -> None:
    def peak(how: str) -> int:
        done = subprocess.run([sys.executable, "-c", PEAK, how], capture_output=True, text=True, check=True)
        return int(done.stdout)

    assert peak("together") < 0.85 * peak("apart")
