"""Engines and the GPUs of a machine: which model they are for, which of several runs them, and what TensorRT tells."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.support import fake_gpu
from tests.support.engine_folder import SIZE, fill
from uigc.engines import backend, engine_set, sidecar
from uigc.engines.profile import Profile
from uigc.engines.provider import TensorRT
from uigc.runtime.bundle import Bundle
from uigc.runtime.codec import Codec
from uigc.runtime.errors import EngineError, ProviderError
from uigc.runtime.providers import ProviderOptions


def test_another_model_of_the_same_target(monkeypatch: pytest.MonkeyPatch, tiny_path: Path, tmp_path: Path) -> None:
    fake_gpu.install(monkeypatch, "tensorrt", devices=2, models=(b"H100 PCIe", b"H100 SXM"))
    fill(tmp_path, tiny_path, name="tensorrt")
    assert sidecar.Sidecar.read(tmp_path / "stage0.int8.engine").gpu == "H100 PCIe"
    path = tiny_path / "stage0.int8.onnx"
    TensorRT("tensorrt", tmp_path).load(path, ProviderOptions()).close()
    with pytest.raises(EngineError, match="on H100 PCIe, whose kernels it timed, and this GPU is H100 SXM; build it"):
        TensorRT("tensorrt", tmp_path).load(path, ProviderOptions(device=1))
    with pytest.raises(ProviderError, match="Device 2 was asked for, and this machine has 2 GPUs"):
        TensorRT("tensorrt", tmp_path).load(path, ProviderOptions(device=2))


def test_a_codec_on_the_second_gpu(monkeypatch: pytest.MonkeyPatch, tiny_path: Path, tmp_path: Path) -> None:
    """In threads that begin with the first."""
    trt = fake_gpu.install(monkeypatch, devices=2)
    fill(tmp_path, tiny_path)
    images = [np.random.default_rng(seed).integers(0, 256, (64, 96, 3), dtype=np.uint8) for seed in range(4)]
    with Codec(tiny_path, provider="tensorrt-rtx", engines=tmp_path, device=1) as codec:
        files = list(codec.compress_many(images, jobs=2))
        assert {stream.device for stream in trt.cuda.streams.values()} == {1}
    assert files == [Codec(tiny_path, pixel_precision="fp16").compress(image) for image in images]


def test_what_is_not_told_is_kept_with_a_warning(
    monkeypatch: pytest.MonkeyPatch, tiny_path: Path, tmp_path: Path
) -> None:
    trt = fake_gpu.install(monkeypatch)
    trt.builds, said = "unheard_of", list[str]()
    order = engine_set.Order("mixed", (Profile.parse(SIZE),), graphs=("decoder",))
    list(engine_set.build_missing(Bundle.load(tiny_path), backend.find("tensorrt-rtx"), order, tmp_path, said.append))
    assert "decoder fp16: warning: decoder was asked for in fp16" in said[-1]
    found = sidecar.Sidecar.read(tmp_path / "decoder.fp16.engine")
    assert found.warning in said[-1]
    assert list(found.products) == ["unknown"]
    said.clear()
    list(engine_set.build_missing(Bundle.load(tiny_path), backend.find("tensorrt-rtx"), order, tmp_path, said.append))
    assert [text.partition(": ")[2].partition(":")[0] for text in said] == ["is there already", "warning"]
    TensorRT("tensorrt-rtx", tmp_path).load(tiny_path / "decoder.fp16.onnx", ProviderOptions()).close()
