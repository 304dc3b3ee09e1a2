"""Random dyadic graphs: a proven graph computes the same in float32 as in exact arithmetic."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from onnx import TensorProto

from tests.support.onnx_graphs import WIDTH, Node, intermediates, model, node
from uigc.export.proof import ProofError, prove

GRAPHS = 400
Exact = np.ndarray  # of Fractions


class Program:
    """A random chain of operators, with its constants and its meaning in exact arithmetic."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[Node] = []
        self.constants: dict[str, np.ndarray] = {}
        self.meaning: list[tuple[str, object]] = []
        """The name of each output, and the exact function that computes it from the one before."""
        self.width, self.current = WIDTH, "x"
        self.bounds = (-int(self.rng.integers(1, 200)), int(self.rng.integers(1, 200)))
        operations = [
            self.scale, self.shift, self.matmul, self.round, self.clip, self.absolute, self.square, self.to_int8,
            self.truncate, self.largest,
        ]  # fmt: skip
        for index in range(int(self.rng.integers(2, 9))):
            self.label = f"t{index}"
            operations[self.rng.integers(len(operations))]()
        self.nodes.append(node("Identity", self.current, "y"))

    def add(self, operator: str, extra: str, meaning: object, **attributes: object) -> None:
        self.nodes.append(node(operator, f"{self.current} {extra}", self.label, **attributes))
        self.meaning.append((self.label, meaning))
        self.current = self.label

    def number(self, bits: int) -> float:
        return float(self.rng.integers(1, 2**bits)) * 2.0 ** int(self.rng.integers(-9, 4))

    def value(self, array: np.ndarray) -> str:
        name = f"{self.label}_c"
        self.constants[name] = array.astype(np.float32)
        return name

    def scale(self) -> None:
        row = np.array([self.number(int(self.rng.integers(1, 10))) for _ in range(self.width)])
        row *= self.rng.choice([-1, 1], self.width)
        self.add("Mul", self.value(row), lambda x: x * fractions(row))

    def shift(self) -> None:
        row = np.array([self.number(6) for _ in range(self.width)])
        self.add("Add", self.value(row), lambda x: x + fractions(row))

    def matmul(self) -> None:
        out = int(self.rng.integers(1, 12))
        weight = self.rng.integers(-63, 64, (self.width, out)) * 2.0 ** self.rng.integers(-8, 3, out)
        self.width = out
        self.add("MatMul", self.value(weight), lambda x: x.dot(fractions(weight)))

    def round(self) -> None:
        self.add("Round", "", lambda x: np.vectorize(lambda v: Fraction(round(v)), otypes=[object])(x))

    def clip(self) -> None:
        low, high = -self.number(7), self.number(7)
        self.constants[f"{self.label}_l"] = np.array(low, np.float32)
        self.constants[f"{self.label}_h"] = np.array(high, np.float32)
        limit = np.vectorize(lambda v: min(max(v, Fraction(low)), Fraction(high)), otypes=[object])
        self.add("Clip", f"{self.label}_l {self.label}_h", limit)

    def absolute(self) -> None:
        self.add("Abs", "", np.abs)

    def square(self) -> None:
        self.add("Mul", self.current, lambda x: x * x)

    def largest(self) -> None:
        self.width, self.constants[f"{self.label}_a"] = 1, np.array([-1])
        self.add("ReduceMax", f"{self.label}_a", lambda x: x.max(axis=-1, keepdims=True), keepdims=1)

    def truncate(self) -> None:
        """Cast to integers and back."""
        self.add("Cast", "", np.vectorize(lambda v: Fraction(int(v)), otypes=[object]), to=TensorProto.INT32)
        self.label += "w"
        self.add("Cast", "", lambda x: x, to=TensorProto.FLOAT)

    def to_int8(self) -> None:
        """Round and clip to int8, which keeps long programs provable."""
        self.round()
        self.label += "k"
        self.clip()


def fractions(array: np.ndarray) -> Exact:
    return np.vectorize(Fraction, otypes=[object])(array.astype(np.float64))


def exact(program: Program, tokens: np.ndarray) -> dict[str, Exact]:
    """Return every output of the program in exact arithmetic."""
    current = np.vectorize(Fraction, otypes=[object])(tokens)
    values = {}
    for name, meaning in program.meaning:
        current = meaning(current)  # type: ignore[operator]
        values[name] = current
    return values


def run(program: Program) -> tuple[bool, bool]:
    """Return whether the program is proven, and whether float32 is exact on extreme and random inputs."""
    graph = model(program.nodes, **program.constants)
    low, high = program.bounds
    tokens = program.rng.integers(low, high, (6, WIDTH), endpoint=True, dtype=np.int32)
    tokens[:3] = program.rng.choice([low, high], (3, WIDTH))
    expected = exact(program, tokens)
    found = intermediates(graph, tokens)
    same = all(np.array_equal(fractions(found[name]), array) for name, array in expected.items())
    try:
        proof = prove(graph, {"tokens": program.bounds})
    except ProofError:
        return False, same
    for name, array in expected.items():
        value = proof.values[name]
        assert (array >= fractions(np.broadcast_to(value.low, array.shape))).all(), name
        assert (array <= fractions(np.broadcast_to(value.high, array.shape))).all(), name
        steps = array / fractions(np.broadcast_to(np.ldexp(1.0, value.exponent), array.shape))
        assert all(step.denominator == 1 for step in steps.flat), name
    return True, same


@pytest.fixture(scope="module")
def outcomes() -> list[tuple[bool, bool]]:
    return [run(Program(seed)) for seed in range(GRAPHS)]


def test_proven_programs_are_exact(outcomes: list[tuple[bool, bool]]) -> None:
    assert all(same for proven, same in outcomes if proven)


def test_some_programs_are_proven_and_some_refused(outcomes: list[tuple[bool, bool]]) -> None:
    """Some of the refused programs do round, so the test above could fail."""
    assert GRAPHS / 4 < sum(proven for proven, _ in outcomes) < GRAPHS
    assert sum(not same for _, same in outcomes) > GRAPHS / 50
