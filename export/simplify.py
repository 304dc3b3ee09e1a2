"""Simplify the exported graph: fold values that are known at export time, merge nodes that one operator can express.

No tensor changes its values; every provider has fewer nodes to read. The rules, one method each::

    Reshape(x, computed shape)          => Reshape(x, constant shape)      _reshape, _use_constant_shape
    Reshape(constant, shape)            => constant                        _reshape
    Reshape(vector, [-1])               => vector                          _reshape
    Reshape(Gather(table, v), shape)    => Gather(table, v as a matrix)    _reshape, _gather_by_matrix
    Cast(int32 constant)                => int64 constant                  _cast
    Gather(constant, constant)          => constant, unless larger         _gather
    Squeeze(Shape(x)[i:i+1])            => the 1-element vector itself     _squeeze, _track_sizes
    Slice(Slice(x)) along other axes    => one Slice                       _slice
    Mul(ReduceSum(x), 1/2^n)            => ReduceMean(x)                   _fuse_mean
    Add(Gemm(a, b), c)                  => Gemm(a, b, c)                   _fuse_gemm_add
    Shape and Div for each axis         => one Shape, one Div, one Split   _merge_size_nodes
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper

from uigc.export.editor import Array, Editor

Shape = tuple[int | str, ...]
INTEGER_ARITHMETIC = ("Add", "Sub", "Mul", "Div", "Mod")


def simplify(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the simplified graph; the (symbolic) shapes in its ``value_info`` tell which shapes are constant."""
    return _Simplifier(model).result()


class _Simplifier:
    """One pass over the nodes, in their order, so that every rule sees the rewritten producers of its inputs."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model, self.editor, self.shapes = model, Editor(model), _shapes(model)
        self.renamed: dict[str, str] = {}
        """Outputs of removed nodes, and the tensors that hold the same values."""
        self.producers: dict[str, NodeProto] = {}
        """The rewritten producer of each tensor."""
        self.size_vectors: set[str] = set()
        """Scalars of the original graph (sizes) that are now vectors of one element."""
        self.original_inputs: list[str] = []
        """Input names of the current node, before renaming."""
        self.rules: dict[str, Callable[[NodeProto], str | None]] = {
            "Reshape": self._reshape, "Cast": self._cast, "Squeeze": self._squeeze, "Slice": self._slice,
            "Mul": self._fuse_mean, "Add": self._fuse_gemm_add, "Gather": self._gather,
        }  # fmt: skip

    def result(self) -> onnx.ModelProto:
        for original in self.model.graph.node:
            node = NodeProto()
            node.CopyFrom(original)
            self.original_inputs = list(original.input)
            node.input[:] = [self.renamed.get(name, name) for name in node.input]
            # A rule either changes the node in place and returns None, or returns the tensor that replaces its output.
            replacement = self.rules[node.op_type](node) if node.op_type in self.rules else None
            if replacement is not None:
                self.renamed[node.output[0]] = replacement
                continue
            self._track_sizes(node)
            self.producers.update(dict.fromkeys(node.output, node))
            self.editor.nodes.append(node)
        self._merge_size_nodes()
        return self.editor.finish()  # drops the producers that nobody reads any more

    def _reshape(self, node: NodeProto) -> str | None:
        if self.editor.array(node.input[1]) is None:
            self._use_constant_shape(node)
        data, target = (self.editor.array(name) for name in node.input)
        if target is None:
            return None
        if data is not None and 0 not in target:
            shaped = data.reshape([int(size) for size in target])
            return self.editor.constant(f"{node.input[0]}.{node.output[0]}", shaped)
        is_vector = self.original_inputs[0] in self.size_vectors or len(self._shape(node.input[0])) == 1
        if target.tolist() == [-1] and is_vector:
            return node.input[0]
        self._gather_by_matrix(node, target)
        return None

    def _use_constant_shape(self, node: NodeProto) -> None:
        """State the shape with 0 (the size in the input) and at most one -1 (the rest), where these suffice."""
        source, target = self.shapes.get(node.input[0]), self.shapes.get(node.output[0])
        if source is None or target is None:
            return
        stated = [
            size if isinstance(size, int) else 0 if axis < len(source) and source[axis] == size else -1
            for axis, size in enumerate(target)
        ]
        if stated.count(-1) <= 1:
            node.input[1] = self.editor.constant("shape." + ".".join(map(str, stated)), np.array(stated, np.int64))
            del node.attribute[:]  # allowzero, under which 0 would mean an empty dimension

    def _gather_by_matrix(self, node: NodeProto, target: Array) -> None:
        """Reshape the index of a Gather instead of its result."""
        gather = self.producers.get(node.input[0])
        if gather is None or gather.op_type != "Gather":
            return
        table, index = (self.editor.array(name) for name in gather.input)
        axis = _integer(gather, "axis", 0)
        if table is None or index is None or index.ndim != 1:
            return
        # The reshape must divide only the axis that the index has put there.
        inner = [int(size) for size in target[axis : len(target) - (table.ndim - axis - 1)]]
        if [*table.shape[:axis], *inner, *table.shape[axis + 1 :]] != target.tolist():
            return
        matrix = self.editor.constant(f"{gather.input[1]}.{'x'.join(map(str, inner))}", index.reshape(inner))
        self._replace_with(node, "Gather", [gather.input[0], matrix], axis=axis)

    def _cast(self, node: NodeProto) -> str | None:
        value = self.editor.array(node.input[0])
        if value is None or value.dtype != np.int32 or node.attribute[0].i != TensorProto.INT64:
            return None
        return self.editor.constant(f"{node.input[0]}.{node.output[0]}", value.astype(np.int64))

    def _gather(self, node: NodeProto) -> str | None:
        """Fold a Gather from a constant by a constant, unless the result is larger than the table."""
        table, index = (self.editor.array(name) for name in node.input)
        if table is None or index is None:
            return None
        found = np.take(table, index.astype(np.int64), _integer(node, "axis", 0))
        return self.editor.constant(f"{node.output[0]}.found", found) if found.size <= table.size else None

    def _squeeze(self, node: NodeProto) -> str | None:
        """Keep a size as a vector of one element, because shapes are concatenated from such vectors."""
        source = self.producers.get(node.input[0])
        if source is None or source.op_type != "Shape":
            return None
        if _integer(source, "end", 0) - _integer(source, "start", 0) != 1:
            return None
        self.size_vectors.add(node.output[0])
        return node.input[0]

    def _track_sizes(self, node: NodeProto) -> None:
        """Let arithmetic work on sizes as vectors, and insert a Squeeze in front of every other operator.

        Arithmetic of sizes alone gives another size; that of a size and an array broadcasts to the same result.
        """
        positions = [index for index, name in enumerate(self.original_inputs) if name in self.size_vectors]
        if positions and node.op_type in INTEGER_ARITHMETIC:
            others = [name for index, name in enumerate(node.input) if index not in positions]
            if not any(map(self._shape, others)):
                self.size_vectors.update(node.output)
            return
        for index in positions:
            node.input[index] = self.editor.once("Squeeze", [node.input[index]], f"{node.input[index]}.scalar")

    def _slice(self, node: NodeProto) -> str | None:
        inner = self.producers.get(node.input[0])
        if inner is None or inner.op_type != "Slice":
            return None
        first, second = ([self.editor.array(name) for name in slice_.input[1:]] for slice_ in (inner, node))
        if len(first) != 4 or len(second) != 4 or any(part is None for part in (*first, *second)):
            return None
        # The four parts are starts, ends, axes and steps; the slices commute if no axis occurs twice.
        joined = [np.concatenate([a, b]) for a, b in zip(first, second, strict=True) if a is not None and b is not None]
        if len(set(joined[2].tolist())) == len(joined[2]):
            names = [self.editor.constant(f"{node.output[0]}.{part}", joined[part]) for part in range(4)]
            self._replace_with(node, "Slice", [inner.input[0], *names])
        return None

    def _fuse_mean(self, node: NodeProto) -> str | None:
        """Only where the last axis has 2^n elements, so that neither form rounds."""
        for position in (0, 1):
            total, factor = self.producers.get(node.input[position]), self.editor.array(node.input[1 - position])
            if total is None or total.op_type != "ReduceSum" or factor is None or factor.size != 1:
                continue
            axes, length = self.editor.array(total.input[1]), self._shape(total.input[0])[-1:]
            count = length[0] if length else 0
            is_power = isinstance(count, int) and count > 0 and not count & (count - 1)
            if axes is not None and axes.tolist() == [-1] and is_power and float(factor.reshape(())) * int(count) == 1:
                self._replace_with(node, "ReduceMean", list(total.input), keepdims=_integer(total, "keepdims", 1))
                return None
        return None

    def _fuse_gemm_add(self, node: NodeProto) -> str | None:
        """Only where the sum is the product's one reader, and where ``c`` is a vector or a matrix, as Gemm wants it."""
        for position in (0, 1):
            product, other = self.producers.get(node.input[position]), node.input[1 - position]
            if product is None or product.op_type != "Gemm" or len(product.input) > 2:
                continue
            if self._uses(node.input[position]) == 1 and 1 <= len(self._shape(other)) <= 2:
                node.op_type, node.name = "Gemm", f"{product.name}.added"
                node.input[:] = [*product.input, other]
                node.attribute.extend(product.attribute)
                return None
        return None

    def _merge_size_nodes(self) -> None:
        """Compute all sizes of the graph's input, divided by constants or not, in three nodes at the start."""
        nodes, (source, *_) = self.editor.nodes, self.model.graph.input
        # Find the Shape of each axis, and the Div that is its one reader; an axis without a Shape ends the rule.
        found: list[tuple[str, int]] = []
        replaced: list[NodeProto] = []
        for axis in range(len(self.shapes[source.name])):
            shape = next((node for node in nodes if _is_size(node, source.name, axis)), None)
            if shape is None:
                return
            division, divisor = self._division(shape.output[0])
            found.append((shape.output[0], 1) if division is None else (division.output[0], divisor))
            replaced += [shape] if division is None else [shape, division]
        # Write them as one chain whose outputs have the old names.
        names, divisors = zip(*found, strict=True)
        divided = self.editor.constant("sizes.divisors", np.array(divisors, np.int64))
        nodes[:] = [
            helper.make_node("Shape", [source.name], ["sizes"], "node_sizes"),
            helper.make_node("Div", ["sizes", divided], ["sizes.divided"], "node_sizes.divided"),
            helper.make_node("Split", ["sizes.divided"], list(names), "node_sizes.split", num_outputs=len(names)),
            *(node for node in nodes if node not in replaced),
        ]

    def _division(self, size: str) -> tuple[NodeProto | None, int]:
        """Return the only node that reads ``size`` and its divisor, if it divides by a constant; else None and 1."""
        readers = [node for node in self.editor.nodes if size in node.input]
        if len(readers) == 1 and readers[0].op_type == "Div" and readers[0].input[0] == size:
            divisor = self.editor.array(readers[0].input[1])
            if divisor is not None and divisor.size == 1:
                return readers[0], int(divisor.reshape(()))
        return None, 1

    def _uses(self, name: str) -> int:
        return sum(list(node.input).count(name) for node in self.model.graph.node)

    def _shape(self, name: str) -> Shape:
        """Return the shape of a tensor, empty if it is unknown."""
        value = self.editor.array(name)
        return tuple(value.shape) if value is not None else self.shapes.get(name, ())

    def _replace_with(self, node: NodeProto, operator: str, inputs: list[str], **attributes: object) -> None:
        node.CopyFrom(helper.make_node(operator, inputs, list(node.output), node.name, **attributes))


def _is_size(node: NodeProto, source: str, axis: int) -> bool:
    ends = _integer(node, "start", 0), _integer(node, "end", 0)
    return node.op_type == "Shape" and node.input[0] == source and ends == (axis, axis + 1)


def _integer(node: NodeProto, name: str, default: int) -> int:
    return next((int(entry.i) for entry in node.attribute if entry.name == name), default)


def _shapes(model: onnx.ModelProto) -> dict[str, Shape]:
    """Return the shapes of tensors: sizes are numbers or symbols, and an unknown size is a symbol that occurs once."""
    graph = model.graph
    return {
        entry.name: tuple(
            dim.dim_value if dim.HasField("dim_value") else dim.dim_param or f"{entry.name}[{axis}]"
            for axis, dim in enumerate(entry.type.tensor_type.shape.dim)
        )
        for entry in (*graph.input, *graph.value_info, *graph.output)
    }
