"""What the exporter computes at run time though it is known, and what it writes as two nodes though one says it.

Shapes of reshapes, reshaped and cast tables; sizes as scalars and again as vectors; slices of slices; lookups of
constants; means; products and what is added to them. Values do not change; fewer nodes are left for every provider to
read.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper

from uigc.export.editor import Array, Editor

Shape = tuple[int | str, ...]
INTEGER_ARITHMETIC = ("Add", "Sub", "Mul", "Div", "Mod")


def tidy(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph with constant shapes where the symbolic ones in its ``value_info`` allow, constants folded, and nodes
    merged."""
    return _Tidying(model).result()


class _Tidying:
    def __init__(self, model: onnx.ModelProto) -> None:
        self.model, self.editor, self.shapes = model, Editor(model), _shapes(model)
        self.renamed: dict[str, str] = {}
        self.made: dict[str, NodeProto] = {}
        """The node as it is now that makes a tensor."""
        self.sizes: set[str] = set()
        """Scalars of the original that are held as vectors of one element."""
        self.reading: list[str] = []
        """What the node at hand reads, as the original calls it."""
        self.rules: dict[str, Callable[[NodeProto], str | None]] = {
            "Reshape": self._reshape, "Cast": self._cast, "Squeeze": self._squeeze, "Slice": self._slice,
            "Mul": self._mean, "Add": self._added, "Gather": self._lookup,
        }  # fmt: skip

    def result(self) -> onnx.ModelProto:
        for original in self.model.graph.node:
            node = NodeProto()
            node.CopyFrom(original)
            self.reading = list(original.input)
            node.input[:] = [self.renamed.get(name, name) for name in node.input]
            name = self.rules[node.op_type](node) if node.op_type in self.rules else None
            if name is not None:
                self.renamed[node.output[0]] = name
                continue
            self._scalars(node)
            self.made.update(dict.fromkeys(node.output, node))
            self.editor.nodes.append(node)
        self._measure_once()
        return self.editor.finish()

    def _measure_once(self) -> None:
        """All sizes of the input, divided or not: one Shape, one Div, one Split."""
        nodes, (source, *_) = self.editor.nodes, self.model.graph.input
        found: list[tuple[str, int]] = []
        replaced: list[NodeProto] = []
        for axis in range(len(self.shapes[source.name])):
            shape = next((node for node in nodes if _measures(node, source.name, axis)), None)
            if shape is None:
                return
            division, divisor = self._division(shape.output[0])
            found.append((shape.output[0], 1) if division is None else (division.output[0], divisor))
            replaced += [shape] if division is None else [shape, division]
        names, divisors = zip(*found, strict=True)
        divided = self.editor.constant("sizes.divisors", np.array(divisors, np.int64))
        nodes[:] = [
            helper.make_node("Shape", [source.name], ["sizes"], "node_sizes"),
            helper.make_node("Div", ["sizes", divided], ["sizes.divided"], "node_sizes.divided"),
            helper.make_node("Split", ["sizes.divided"], list(names), "node_sizes.split", num_outputs=len(names)),
            *(node for node in nodes if node not in replaced),
        ]

    def _division(self, size: str) -> tuple[NodeProto | None, int]:
        """The only node that reads ``size``, if it divides it by a constant, and that constant."""
        readers = [node for node in self.editor.nodes if size in node.input]
        if len(readers) == 1 and readers[0].op_type == "Div" and readers[0].input[0] == size:
            divisor = self.editor.array(readers[0].input[1])
            if divisor is not None and divisor.size == 1:
                return readers[0], int(divisor.reshape(()))
        return None, 1

    # Each rule changes the node, or returns the name of a tensor that holds its output already.

    def _reshape(self, node: NodeProto) -> str | None:
        if self.editor.array(node.input[1]) is None:
            self._state_shape(node)
        data, target = (self.editor.array(name) for name in node.input)
        if target is None:
            return None
        if data is not None and 0 not in target:
            shaped = data.reshape([int(size) for size in target])
            return self.editor.constant(f"{node.input[0]}.{node.output[0]}", shaped)
        if target.tolist() == [-1] and (self.reading[0] in self.sizes or len(self._shape(node.input[0])) == 1):
            return node.input[0]
        self._index_by_a_matrix(node, target)
        return None

    def _state_shape(self, node: NodeProto) -> None:
        """Replace a computed shape by 0 (as in the input) and one -1 (what is left), where that says the same."""
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

    def _index_by_a_matrix(self, node: NodeProto, target: Array) -> None:
        """A lookup by a vector whose result is reshaped: a lookup by a matrix."""
        lookup = self.made.get(node.input[0])
        if lookup is None or lookup.op_type != "Gather":
            return
        table, index = (self.editor.array(name) for name in lookup.input)
        axis = _integer(lookup, "axis", 0)
        if table is None or index is None or index.ndim != 1:
            return
        inner = [int(size) for size in target[axis : len(target) - (table.ndim - axis - 1)]]
        if [*table.shape[:axis], *inner, *table.shape[axis + 1 :]] != target.tolist():
            return
        matrix = self.editor.constant(f"{lookup.input[1]}.{'x'.join(map(str, inner))}", index.reshape(inner))
        self._become(node, "Gather", [lookup.input[0], matrix], axis=axis)

    def _cast(self, node: NodeProto) -> str | None:
        value = self.editor.array(node.input[0])
        if value is None or value.dtype != np.int32 or node.attribute[0].i != TensorProto.INT64:
            return None
        return self.editor.constant(f"{node.input[0]}.{node.output[0]}", value.astype(np.int64))

    def _lookup(self, node: NodeProto) -> str | None:
        """Of constants in a constant, unless that would be more to store."""
        table, index = (self.editor.array(name) for name in node.input)
        if table is None or index is None:
            return None
        found = np.take(table, index.astype(np.int64), _integer(node, "axis", 0))
        return self.editor.constant(f"{node.output[0]}.found", found) if found.size <= table.size else None

    def _squeeze(self, node: NodeProto) -> str | None:
        """Sizes stay vectors of one element, which is what shapes are made of."""
        source = self.made.get(node.input[0])
        if (
            source is None
            or source.op_type != "Shape"
            or _integer(source, "end", 0) - _integer(source, "start", 0) != 1
        ):
            return None
        self.sizes.add(node.output[0])
        return node.input[0]

    def _scalars(self, node: NodeProto) -> None:
        """Arithmetic of sizes gives sizes, and that of sizes and arrays does not care; whoever else wants a scalar gets
        one."""
        taken = [index for index, name in enumerate(self.reading) if name in self.sizes]
        if taken and node.op_type in INTEGER_ARITHMETIC:
            others = [name for index, name in enumerate(node.input) if index not in taken]
            if not any(map(self._shape, others)):
                self.sizes.update(node.output)
            return
        for index in taken:
            node.input[index] = self.editor.once("Squeeze", [node.input[index]], f"{node.input[index]}.scalar")

    def _slice(self, node: NodeProto) -> str | None:
        """A slice of a slice along other axes."""
        inner = self.made.get(node.input[0])
        if inner is None or inner.op_type != "Slice":
            return None
        first, second = ([self.editor.array(name) for name in slice_.input[1:]] for slice_ in (inner, node))
        if len(first) != 4 or len(second) != 4 or any(part is None for part in (*first, *second)):
            return None
        joined = [np.concatenate([a, b]) for a, b in zip(first, second, strict=True) if a is not None and b is not None]
        if len(set(joined[2].tolist())) == len(joined[2]):
            names = [self.editor.constant(f"{node.output[0]}.{part}", joined[part]) for part in range(4)]
            self._become(node, "Slice", [inner.input[0], *names])
        return None

    def _mean(self, node: NodeProto) -> str | None:
        """A sum times the reciprocal of its length, a power of two so that nothing is rounded either way."""
        for position in (0, 1):
            total, factor = self.made.get(node.input[position]), self.editor.array(node.input[1 - position])
            if total is None or total.op_type != "ReduceSum" or factor is None or factor.size != 1:
                continue
            axes, length = self.editor.array(total.input[1]), self._shape(total.input[0])[-1:]
            count = length[0] if length else 0
            whole = isinstance(count, int) and count > 0 and not count & (count - 1)
            if axes is not None and axes.tolist() == [-1] and whole and float(factor.reshape(())) * int(count) == 1:
                self._become(node, "ReduceMean", list(total.input), keepdims=_integer(total, "keepdims", 1))
                return None
        return None

    def _added(self, node: NodeProto) -> str | None:
        """Gemm takes what is added to its product, if it has no more rows or columns."""
        for position in (0, 1):
            product, other = self.made.get(node.input[position]), node.input[1 - position]
            if product is None or product.op_type != "Gemm" or len(product.input) > 2:
                continue
            if self._uses(node.input[position]) == 1 and 1 <= len(self._shape(other)) <= 2:
                node.op_type, node.name = "Gemm", f"{product.name}.added"
                node.input[:] = [*product.input, other]
                node.attribute.extend(product.attribute)
                return None
        return None

    def _uses(self, name: str) -> int:
        return sum(list(node.input).count(name) for node in self.model.graph.node)

    def _shape(self, name: str) -> Shape:
        """Empty if nothing is known of it."""
        value = self.editor.array(name)
        return tuple(value.shape) if value is not None else self.shapes.get(name, ())

    def _become(self, node: NodeProto, operator: str, inputs: list[str], **attributes: object) -> None:
        node.CopyFrom(helper.make_node(operator, inputs, list(node.output), node.name, **attributes))


def _measures(node: NodeProto, source: str, axis: int) -> bool:
    ends = _integer(node, "start", 0), _integer(node, "end", 0)
    return node.op_type == "Shape" and node.input[0] == source and ends == (axis, axis + 1)


def _integer(node: NodeProto, name: str, default: int) -> int:
    return next((int(entry.i) for entry in node.attribute if entry.name == name), default)


def _shapes(model: onnx.ModelProto) -> dict[str, Shape]:
    """Sizes are numbers or symbols; a size of which nothing is known is a symbol that occurs once."""
    graph = model.graph
    return {
        entry.name: tuple(
            dim.dim_value if dim.HasField("dim_value") else dim.dim_param or f"{entry.name}[{axis}]"
            for axis, dim in enumerate(entry.type.tensor_type.shape.dim)
        )
        for entry in (*graph.input, *graph.value_info, *graph.output)
    }
