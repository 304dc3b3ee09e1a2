"""What is checked of a node, how tight it was, and the refusal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from uigc.export.proof.values import Exponents, Numbers, Value, span
from uigc.runtime.errors import ExitCode, UigcError

SIGNIFICANDS = {"float32": 24, "float16": 11}
# log2 of the finest step, so that nothing is subnormal, and of the largest value.
EXPONENTS = {"float32": (-126, 127), "float16": (-14, 15)}
OPERAND_BITS = 8  # bfloat16's significand; TF32 and float16 hold more
PAIR_LIMIT = 2**15 - 1  # int8 kernels of CPUs without VNNI add two products in 16 bits, and saturate
UNSIGNED_INT8 = 255  # those kernels shift their first operand to 0..255


class ProofError(UigcError):
    """A graph that cannot be proven exact."""

    exit_code = ExitCode.INEXACT


@dataclass(frozen=True)
class Check:
    """One limit that held: ``used`` of ``limit`` bits."""

    kind: str
    node: str
    operator: str
    used: float
    limit: float

    @property
    def slack(self) -> float:
        return self.limit - self.used


@dataclass
class Step:
    """A node with what is known of its inputs; rules read it and ask it to check."""

    operator: str
    name: str
    inputs: Sequence[Value | None]
    shapes: Sequence[Sequence[int | None] | None]
    """Dimensions of the inputs, None where they are not fixed."""
    attributes: Mapping[str, Any]
    checks: list[Check] = field(default_factory=list)
    dimensions: tuple[int, int] = (0, 1 << 40)
    """Bounds of the lengths of its first input's axes, for the arithmetic of shapes."""

    def input(self, index: int) -> Value:
        value = self.optional(index)
        if value is None:
            raise self.refusal(f"its input {index} is missing", "export the graph again")
        return value

    def optional(self, index: int) -> Value | None:
        return self.inputs[index] if index < len(self.inputs) else None

    def length(self, index: int, axis: int) -> int:
        """The fixed length of an input's axis."""
        shape = self.shapes[index]
        size = shape[axis] if shape is not None else None
        if size is None:
            raise self.refusal(
                f"the length of axis {axis} of its input {index} is not fixed, and so neither is the number of terms "
                "that it sums",
                "reshape to a constant length before it",
            )
        return size

    def refusal(self, found: str, remedy: str) -> ProofError:
        return ProofError(f"{self.operator} {self.name!r} is not proven exact: {found}; {remedy}.")

    def hold(self, kind: str, used: float, limit: float, found: str, remedy: str) -> None:
        """Record a limit, or refuse."""
        if used > limit:
            raise self.refusal(found, remedy)
        self.checks.append(Check(kind, self.name, self.operator, used, limit))

    def fits(self, dtype: str, magnitude: Numbers, step: Exponents, kind: str, remedy: str) -> None:
        """Integers of up to ``magnitude / 2^step``, and every smaller one, are held by ``dtype``."""
        if dtype not in SIGNIFICANDS:
            raise self.refusal(f"it computes in {dtype}", f"compute in {' or '.join(SIGNIFICANDS)}")
        limit, used = SIGNIFICANDS[dtype], span(magnitude, step)
        self.hold(kind, used, limit, f"{kind} reach 2^{used:.2f} steps and {dtype} holds 2^{limit}", remedy)
        self.in_range(dtype, magnitude, step)

    def in_range(self, dtype: str, magnitude: Numbers, step: Exponents) -> None:
        finest, largest = EXPONENTS[dtype]
        if int(step.min(initial=0)) < finest or span(magnitude, step * 0) > largest:
            raise self.refusal(
                f"its values may leave the exponents of {dtype}, 2^{finest} to 2^{largest}",
                "scale them by a power of two",
            )

    def operand(self, value: Value, label: str) -> None:
        """An operand that tensor cores may read as bfloat16, float16, or TF32."""
        found = f"its {label} operand has up to {value.bits} significant bits and bfloat16 holds {OPERAND_BITS}"
        self.hold("operand", value.bits, OPERAND_BITS, found, "round and clip it to int8 first")
