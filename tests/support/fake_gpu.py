"""A stand-in for a GPU: TensorRT's calls on ONNX Runtime, strict about addresses, shapes and profiles, beside those of
CUDA (``fake_cuda.py``)."""

from __future__ import annotations

import ctypes
import json
import sys
from enum import IntEnum
from functools import partial
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from tests.support.fake_cuda import Cuda

TYPES = {"tensor(uint8)": np.uint8, "tensor(int32)": np.int32, "tensor(float)": np.float32}


class Context:
    """``IExecutionContext``. ``config``: with TensorRT for RTX, how kernels are compiled and where they are kept."""

    def __init__(self, engine: Engine, config: Any = None) -> None:
        self.engine, self.config, self.address, self.shape, self.profile = engine, config, {}, (), -1
        self.ran: set[tuple[int, ...]] = set()

    def set_optimization_profile_async(self, index: int, stream: int) -> bool:
        assert 0 <= index < len(self.engine.profiles)
        assert type(stream) is int, "the number of a stream is needed"
        self.engine.cuda.put(stream, lambda: setattr(self, "profile", index))
        return True

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        assert self.profile >= 0, "the profile is not set yet"
        low, _, high = self.engine.profiles[self.profile]
        fits = all(a <= b <= c for a, b, c in zip(low, shape, high, strict=True))
        self.shape = tuple(shape) if fits else ()
        self.ran.clear()
        return fits

    def infer_shapes(self) -> list[str]:
        return []

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return (
            self.shape if name == self.engine.names[0] else self._run(np.zeros(self.shape, self.engine.types[0])).shape
        )

    def set_tensor_address(self, name: str, address: int) -> bool:
        assert address in self.engine.cuda.memory
        self.address[name] = address
        return True

    def execute_async_v3(self, stream: int) -> bool:
        """Put the work on the stream, with the shape and the addresses of now."""
        assert type(stream) is int, "the number of a stream is needed"
        cuda = self.engine.cuda
        if self.engine.broken:
            return False
        if cuda.capturing is not None:
            assert self.shape in self.ran, "the first run of a shape may allocate, which a capture forbids"
        self.ran.add(self.shape)
        if self.config is not None:
            self.config.kernels.compile(self.shape, self.config.dynamic_shapes_kernel_specialization_strategy)
        cuda.put(stream, partial(self._execute, self.shape, dict(self.address)))
        return True

    def _execute(self, shape: tuple[int, ...], address: dict[str, int]) -> None:
        source, target = (self.engine.cuda.memory[address[name]] for name in self.engine.names)
        value = np.frombuffer(source, self.engine.types[0], int(np.prod(shape))).reshape(shape)
        result = self._run(value)
        assert result.nbytes <= len(target)
        ctypes.memmove(target, result.tobytes(), result.nbytes)

    def _run(self, value: np.ndarray) -> np.ndarray:
        return self.engine.session.run(None, {self.engine.names[0]: value})[0]


class Engine:
    def __init__(self, trt: TensorRT, facts: dict[str, Any]) -> None:
        self.trt, self.cuda, self.profiles = trt, trt.cuda, [tuple(map(tuple, p)) for p in facts["profiles"]]
        self.broken, self.caches = False, list[Kernels]()
        self.session = onnxruntime.InferenceSession(facts["onnx"], providers=["CPUExecutionProvider"])
        self.kind, self.layers = facts["kind"], facts["layers"]
        tensors = self.session.get_inputs()[0], self.session.get_outputs()[0]
        self.names = [tensor.name for tensor in tensors]
        self.types = [TYPES[tensor.type] for tensor in tensors]
        self.num_io_tensors, self.num_optimization_profiles = 2, len(self.profiles)
        trt.engines.append(self)

    def get_tensor_name(self, index: int) -> str:
        return self.names[index]

    def get_tensor_mode(self, name: str) -> IntEnum:
        return TensorRT.TensorIOMode(1 + self.names.index(name))

    def get_tensor_dtype(self, name: str) -> Any:
        return self.types[self.names.index(name)]

    def get_tensor_profile_shape(self, name: str, index: int) -> tuple[tuple[int, ...], ...]:
        return self.profiles[index]

    def create_engine_inspector(self) -> SimpleNamespace:
        word = {"int8": "Int8", "half": "Half", "float": "Float"}.get(self.kind, self.kind)
        layers = [{"Name": f"{name} + more", "Weights": {"Type": word}} for name in self.layers]
        return SimpleNamespace(get_engine_information=lambda form: json.dumps({"Layers": layers}))

    def create_runtime_config(self) -> SimpleNamespace:
        def create() -> Kernels:
            self.caches.append(Kernels())
            return self.caches[-1]

        config = SimpleNamespace(cuda_graph_strategy=0, create_runtime_cache=create)
        config.set_runtime_cache = lambda cache: config.__dict__.update(kernels=cache) or True
        return config

    def create_execution_context(self, config: Any = None) -> Context:
        assert (config is not None) == hasattr(self.trt, "CudaGraphStrategy")
        assert config is None or config.cuda_graph_strategy == 1
        return Context(self, config)


class Kernels:
    """``IRuntimeCache``: kernels for all shapes, and those for one shape, which are compiled at once or, in the
    background, until the next run."""

    def __init__(self) -> None:
        self.names: set[str] = set()
        self.background: set[str] = set()

    def compile(self, shape: tuple[int, ...], strategy: int) -> None:
        self.names |= self.background
        special = {f"for {shape}"}
        self.names |= special if strategy == TensorRT.EAGER else {"for all"}
        self.background = special

    def serialize(self) -> bytes:
        return "\n".join(["kernels", *sorted(self.names)]).encode()

    def deserialize(self, known: bytes) -> bool:
        title, *names = known.decode().split("\n")
        self.names |= set(names)
        return title == "kernels"


class TensorRT(ModuleType):
    """The module of a flavour. A plan is the text of an RTX plan's products, and JSON of where the graph is."""

    TensorIOMode = IntEnum("TensorIOMode", {"INPUT": 1, "OUTPUT": 2})
    NetworkDefinitionCreationFlag = SimpleNamespace(STRONGLY_TYPED=0)
    BuilderFlag, ProfilingVerbosity = SimpleNamespace(TF32="tf32"), SimpleNamespace(DETAILED=2)
    LayerInformationFormat = SimpleNamespace(JSON=1)
    LAZY, EAGER = 0, 1
    LayerType = SimpleNamespace(CONVOLUTION="Conv", DECONVOLUTION="ConvTranspose", MATRIX_MULTIPLY="MatMul")

    class ILogger:
        INTERNAL_ERROR, ERROR, WARNING = 0, 1, 2

    def __init__(self, name: str, cuda: Cuda, version: str) -> None:
        super().__init__(name)
        self.__version__, self.cuda, self.logger = version, cuda, None
        self.engines: list[Engine] = []
        self.builds: str | None = None  # the type of the products that are built, None for what the file name says
        self.refuses: str | None = None  # what the builder says instead of building
        if name == "tensorrt_rtx":
            self.ComputeCapability = SimpleNamespace(SM86=86, SM89=89, SM120=120, NONE=0)
            self.CudaGraphStrategy = SimpleNamespace(WHOLE_GRAPH_CAPTURE=1)
            self.DynamicShapesKernelSpecializationStrategy = SimpleNamespace(LAZY=self.LAZY, EAGER=self.EAGER)
        self.nptype = lambda kind: kind

    def Runtime(self, logger: Any) -> SimpleNamespace:
        def load(plan: bytes) -> Engine | None:
            try:
                return Engine(self, json.loads(plan.rsplit(b"\n", 1)[1]))
            except (ValueError, IndexError):
                logger.log(self.ILogger.ERROR, "Magic tag does not match")
                logger.log(self.ILogger.ERROR, "Cuda Runtime (In catchCudaError)")
                return None

        return SimpleNamespace(deserialize_cuda_engine=load)

    def Builder(self, logger: Any) -> Builder:
        self.logger = logger
        return Builder(self)

    def OnnxParser(self, network: SimpleNamespace, logger: Any) -> SimpleNamespace:
        def parse(path: str) -> bool:
            graph = onnx.load(path, load_external_data=False).graph
            kinds = {"Conv", "MatMul"}
            layers = [SimpleNamespace(name=n.name, type=n.op_type) for n in graph.node if n.op_type in kinds]
            network.__dict__.update(path=path, num_layers=len(layers), get_layer=layers.__getitem__)
            network.get_input = lambda index: SimpleNamespace(name=graph.input[0].name)
            return True

        return SimpleNamespace(parse_from_file=parse, num_errors=0)


class Builder:
    def __init__(self, trt: TensorRT) -> None:
        self.trt, self.profiles, self.flags = trt, [], set()

    def create_network(self, flags: int) -> SimpleNamespace:
        return SimpleNamespace()

    def create_builder_config(self) -> SimpleNamespace:
        profiles = self.profiles
        timings = SimpleNamespace(serialize=lambda: b"timings")
        return SimpleNamespace(
            set_flag=self.flags.add,
            clear_flag=self.flags.discard,
            set_compute_capability=lambda target, index: True,
            add_optimization_profile=lambda profile: profiles.append(profile.shape) or len(profiles) - 1,
            create_timing_cache=lambda known: timings,
            set_timing_cache=lambda cache, ignore_mismatch: not ignore_mismatch,
            get_timing_cache=lambda: timings,
        )

    def create_optimization_profile(self) -> SimpleNamespace:
        profile = SimpleNamespace()
        profile.set_shape = lambda name, *shapes: profile.__dict__.update(shape=shapes)
        return profile

    def build_serialized_network(self, network: SimpleNamespace, config: SimpleNamespace) -> bytes | None:
        if self.trt.refuses:
            self.trt.logger.log(self.trt.ILogger.ERROR, self.trt.refuses)
            return None
        asked = Path(network.path).name.split(".")[1]
        kind = self.trt.builds or {"int8": "int8", "fp16": "half", "fp32": "float"}[asked]
        lines = [f'tensor={{ name="x" type={kind} }}', f"tf32={int('tf32' in self.flags)}"]
        lines += [
            f'  fully_connected={{ name="{i}.{p}" output={{"y"}} input={{"x" "x"}} }}'
            for i in range(network.num_layers)
            for p in range(len(self.profiles))
        ]
        layers = [network.get_layer(index).name for index in range(network.num_layers)]
        facts = json.dumps({"onnx": network.path, "profiles": self.profiles, "kind": kind, "layers": layers})
        if not hasattr(self.trt, "ComputeCapability"):
            return f"\n{facts}".encode()  # whose plans hold no text
        return "\n".join([*lines, facts]).encode()


def install(patch: pytest.MonkeyPatch, name: str = "tensorrt-rtx", version: str = "1.7.1", **cuda: Any) -> TensorRT:
    """Put the stand-ins where ``import`` finds them; ``cuda``: what the machine has, as :class:`Cuda` takes it."""
    patch.delenv("UIGC_ENGINES", raising=False)
    device = Cuda(**cuda)
    module = TensorRT(name.replace("-", "_"), device, version)
    patch.setitem(sys.modules, "cuda.bindings.runtime", device)
    patch.setitem(sys.modules, module.__name__, module)
    return module
