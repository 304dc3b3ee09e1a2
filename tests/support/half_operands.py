"""Stages in ``fp16`` as bundles had them that were exported before this precision was left out."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto

from uigc.export.editor import Editor
from uigc.export.proof import prove_file, token_domain
from uigc.runtime.bundle import Bundle
from uigc.runtime.bundle.manifest import sha256
from uigc.runtime.bundle.seal import sealed


def half_operands(model: onnx.ModelProto) -> onnx.ModelProto:
    """Cast the operands of every MatMul and Gemm to half and back to float; the sums stay float32."""
    editor = Editor(model)
    for node in model.graph.node:
        if node.op_type in ("MatMul", "Gemm"):
            halves = [_through_half(editor, name) for name in node.input[:2]]
            copy = onnx.NodeProto()
            copy.CopyFrom(node)
            copy.input[:] = [*halves, *node.input[2:]]
            node = copy
        editor.nodes.append(node)
    return editor.finish()


def _through_half(editor: Editor, name: str) -> str:
    weight, half = editor.array(name), f"{name}.half"
    if weight is not None:
        editor.constant(half, weight.astype(np.float16))
    else:
        editor.once("Cast", [name], half, to=TensorProto.FLOAT16)
    return editor.once("Cast", [half], f"{name}.float", to=TensorProto.FLOAT)


def with_half_stages(path: Path, folder: Path) -> Path:
    """A copy of a bundle that has its stages in ``fp16``, too."""
    copied = Path(shutil.copytree(path, folder))
    bundle = Bundle.load(copied)
    content, domain = bundle.manifest, token_domain(bundle.pad)
    for stage in range(len(bundle.schedule)):
        file = copied / f"stage{stage}.fp16.onnx"
        half = half_operands(onnx.load(bundle.graph(f"stage{stage}")))
        onnx.save(half, file)
        digests = {"graph": sha256(file), "weights": content["weights"]["sha256"]}
        content["graphs"][f"stage{stage}"]["precisions"]["fp16"] = {
            "file": file.name,
            "bytes": file.stat().st_size,
            "sha256": digests["graph"],
            "nodes": len(half.graph.node),
            "proof": {**prove_file(file, domain).certificate(domain), **digests},
        }
    (copied / "manifest.json").write_bytes(sealed(content))
    return copied
