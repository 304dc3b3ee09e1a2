"""What ``engines/`` uses of TensorRT's bindings: attributes of classes, by the classes' names."""

from __future__ import annotations

import ast
from typing import Any

from tests.support.paths import ROOT

BOTH = {
    "Builder": ("create_network", "create_builder_config", "create_optimization_profile", "build_serialized_network"),
    "BuilderFlag": ("TF32",),
    "EngineInspector": ("get_engine_information",),
    "IBuilderConfig": (
        "set_flag", "clear_flag", "add_optimization_profile", "create_timing_cache", "set_timing_cache",
        "get_timing_cache", "profiling_verbosity",
    ),
    "ICudaEngine": (
        "num_io_tensors", "num_optimization_profiles", "get_tensor_name", "get_tensor_mode", "get_tensor_dtype",
        "get_tensor_profile_shape", "create_engine_inspector", "create_execution_context",
    ),
    "IExecutionContext": (
        "set_optimization_profile_async", "set_input_shape", "infer_shapes", "get_tensor_shape", "set_tensor_address",
        "execute_async_v3",
    ),
    "ILogger": ("INTERNAL_ERROR", "ERROR", "log"),
    "INetworkDefinition": ("num_layers", "get_layer", "get_input"),
    "IOptimizationProfile": ("set_shape",),
    "ITimingCache": ("serialize",),
    "LayerInformationFormat": ("JSON",),
    "LayerType": ("CONVOLUTION", "DECONVOLUTION", "MATRIX_MULTIPLY"),
    "NetworkDefinitionCreationFlag": ("STRONGLY_TYPED",),
    "OnnxParser": ("parse_from_file", "num_errors", "get_error"),
    "ProfilingVerbosity": ("DETAILED",),
    "Runtime": ("deserialize_cuda_engine",),
    "TensorIOMode": ("INPUT", "OUTPUT"),
}  # fmt: skip
RTX = {
    "CudaGraphStrategy": ("WHOLE_GRAPH_CAPTURE",),
    "DynamicShapesKernelSpecializationStrategy": ("LAZY", "EAGER"),
    "IBuilderConfig": ("set_compute_capability", "num_compute_capabilities"),
    "ICudaEngine": ("create_runtime_config",),
    "IRuntimeCache": ("serialize", "deserialize"),
    "IRuntimeConfig": (
        "cuda_graph_strategy", "dynamic_shapes_kernel_specialization_strategy", "create_runtime_cache",
        "set_runtime_cache",
    ),
}  # fmt: skip
"""What TensorRT for RTX has besides; ``engines/`` asks for it with ``hasattr``."""


def lacking(trt: Any, calls: dict[str, tuple[str, ...]]) -> list[str]:
    """The names of these that the bindings do not have."""
    wanted = [(kind, name) for kind, names in calls.items() for name in names]
    return [f"{kind}.{name}" for kind, name in wanted if not hasattr(getattr(trt, kind, None), name)]


def named_in_the_code() -> tuple[set[tuple[str, ...]], set[str]]:
    """What ``engines/`` names after the module ``trt``, as in ``trt.LayerType.CONVOLUTION``; and all attributes,
    strings and functions that it names at all.
    """
    chains: set[tuple[str, ...]] = set()
    words: set[str] = set()
    for path in sorted((ROOT / "engines").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute):
                words.add(node.attr)
                chain = _after_module(node)
                chains |= {chain} if chain else set()
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                words.add(node.value)
            elif isinstance(node, ast.FunctionDef):
                words.add(node.name)
    return chains, words


def _after_module(node: ast.Attribute) -> tuple[str, ...]:
    names: list[str] = []
    inner: ast.expr = node
    while isinstance(inner, ast.Attribute) and inner.attr != "trt":
        names.insert(0, inner.attr)
        inner = inner.value
    at_module = isinstance(inner, ast.Attribute) or (isinstance(inner, ast.Name) and inner.id == "trt")
    return tuple(names) if at_module else ()
