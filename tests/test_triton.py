"""The model repository for Triton: its configurations are Triton's, its graphs load, and its model decodes."""

from __future__ import annotations

import runpy
import shutil
import sys
import types
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from tests.conftest import Run
from uigc.export.triton import write_repository
from uigc.runtime.bundle import Bundle
from uigc.runtime.codec import Codec
from uigc.runtime.errors import ExitCode, OutputError

PIXELS = np.random.default_rng(0).integers(0, 256, (90, 130, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def repository(tiny_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("triton") / "models"
    write_repository(Bundle.load(tiny_path), folder)
    return folder


@pytest.fixture(scope="module")
def configs(repository: Path) -> dict[str, Any]:
    """Every model's configuration, read as Triton's own message."""
    messages = pytest.importorskip("tritonclient.grpc.model_config_pb2", reason="needs tritonclient[grpc]")
    text_format = pytest.importorskip("google.protobuf.text_format")
    return {
        path.parent.name: text_format.Parse(path.read_text(), messages.ModelConfig())
        for path in sorted(repository.glob("*/config.pbtxt"))
    }


def test_configurations_are_those_of_triton(configs: dict[str, Any], repository: Path, tiny: Codec) -> None:
    assert set(configs) == {path.name for path in repository.iterdir()}
    assert set(configs) == {"uigc", *(f"uigc_{name}" for name in tiny.bundle.manifest["graphs"])}
    for folder, config in configs.items():
        assert config.name == folder
        assert config.backend == ("python" if folder == "uigc" else "onnxruntime")


def test_graphs_are_as_their_configurations_say(configs: dict[str, Any], repository: Path, tiny: Codec) -> None:
    """ONNX Runtime loads each from its own folder, and its tensors have the names, types and dimensions stated."""
    for name in tiny.bundle.manifest["graphs"]:
        config, folder = configs[f"uigc_{name}"], repository / f"uigc_{name}" / "1" / "model.onnx"
        assert sorted(path.name for path in folder.iterdir()) == ["model.onnx", "weights.safetensors"]
        session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
        for stated, found in ((config.input, session.get_inputs()), (config.output, session.get_outputs())):
            assert [tensor.name for tensor in stated] == [tensor.name for tensor in found]
            for tensor, other in zip(stated, found, strict=True):
                sizes = [size if isinstance(size, int) else -1 for size in other.shape[1:]]
                assert list(tensor.dims) == sizes
                kinds = {"tensor(int32)": 8, "tensor(float)": 11, "tensor(uint8)": 2}  # of model_config.proto
                assert tensor.data_type == kinds[other.type]
        assert config.max_batch_size == 8


def test_weights_are_there_once(repository: Path) -> None:
    files = list(repository.rglob("weights.safetensors"))
    assert len(files) == 9
    assert len({path.stat().st_ino for path in files}) == 1
    assert not any(path.is_symlink() for path in repository.rglob("*"))


def test_a_bundle_with_calibrated_graphs_is_whole_beside_the_model(tmp_path: Path) -> None:
    """The default one is: its manifest also names the reports of the calibration."""
    write_repository(Bundle.load(), tmp_path / "models")
    kept = Bundle.load(tmp_path / "models" / "uigc" / "1" / "bundle")
    assert kept.manifest == Bundle.load().manifest
    assert "calibration" in kept.manifest


@dataclass
class _Tensor:
    name: str
    values: Any

    def as_numpy(self) -> Any:
        return self.values


@dataclass
class _Response:
    output_tensors: list[_Tensor] = field(default_factory=list)
    error: Any = None


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch) -> None:
    """The part of the backend's module that the model uses."""
    module: Any = types.ModuleType("triton_python_backend_utils")
    module.get_input_tensor_by_name = lambda request, name: request[name]
    module.Tensor, module.InferenceResponse, module.TritonError = _Tensor, _Response, str
    monkeypatch.setitem(sys.modules, module.__name__, module)


@pytest.mark.usefixtures("backend")
def test_the_model_decodes(configs: dict[str, Any], repository: Path, tiny: Codec) -> None:
    json_format = pytest.importorskip("google.protobuf.json_format")
    model = runpy.run_path(str(repository / "uigc" / "1" / "model.py"))["TritonPythonModel"]()
    config = json_format.MessageToJson(configs["uigc"], preserving_proto_field_name=True)
    model.initialize({"model_config": config})
    files = [tiny.compress(PIXELS, "edge"), b"junk", tiny.compress(PIXELS[:20], "entire"), tiny.compress(PIXELS)[:-1]]
    responses = model.execute([{"file": _Tensor("file", np.frombuffer(data, np.uint8))} for data in files])
    model.finalize()
    (output,) = configs["uigc"].output
    for response, data in zip(responses[::2], files[::2], strict=True):
        assert (response.output_tensors[0].name, response.error) == (output.name, None)
        assert np.array_equal(response.output_tensors[0].values, tiny.decompress(data))
    assert [response.error.split(":")[0] for response in responses[1::2]] == [
        "UnrecognizedFileError",
        "CorruptFileError",
    ]


def test_the_command_writes_it(tiny_path: Path, tmp_path: Path, uigc: Run) -> None:
    done = uigc("export", tiny_path, "--triton", "models")
    assert (done.returncode, (tmp_path / "models" / "uigc" / "1" / "model.py").is_file()) == (0, True), done.stderr
    assert uigc("export", tiny_path, "--triton", "models").returncode == ExitCode.OUTPUT
    for arguments in ((tiny_path,), ("-o", "x"), (tiny_path, "-o", "x", "--triton", "y")):
        assert uigc("export", *arguments).returncode == ExitCode.USAGE


def test_nothing_is_left_of_one_that_fails(tiny_path: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_path, tmp_path / "bundle"))
    bundle = Bundle.load(folder)
    (folder / "decoder.fp32.onnx").unlink()
    with pytest.raises(OSError, match=r"decoder\.fp32"):
        write_repository(bundle, tmp_path / "out" / "models")
    assert list((tmp_path / "out").iterdir()) == []
    (tmp_path / "there").mkdir()
    with pytest.raises(OutputError, match="exists"):
        write_repository(Bundle.load(tiny_path), tmp_path / "there")
