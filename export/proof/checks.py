"""The checks of a node: the limits that must hold, how tight they were, and the error if one does not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from uigc.export.proof.values import Exponents, Numbers, Value, log2_steps
from uigc.runtime.errors import ExitCode, UigcError

SIGNIFICANDS = {"float32": 24, "float16": 11}
# log2 of the finest step, so that no value is subnormal, and of the largest value.
EXPONENTS = {"float32": (-126, 127), "float16": (-14, 15)}
OPERAND_BITS = 8  # the significand of bfloat16; TF32 and float16 hold more
PAIR_LIMIT = 2**15 - 1  # int8 kernels of CPUs without VNNI add two products in 16 bits, and saturate
UNSIGNED_INT8 = 255  # those kernels shift their first operand to 0..255


class ProofError(UigcError):
    """A graph cannot be proven exact."""

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
class NodeContext:
    """A node under analysis and the values of its inputs.

    Rules read it, and call its ``check_`` methods for each limit on which their result relies.
    """

    operator: str
    name: str
    inputs: Sequence[Value | None]
    shapes: Sequence[Sequence[int | None] | None]
    """Shapes of the inputs; None for a dimension that is not fixed, or for a shape that is unknown."""
    attributes: Mapping[str, Any]
    checks: list[Check] = field(default_factory=list)
    dimensions: tuple[int, int] = (0, 1 << 40)
    """Smallest and largest length that an axis of the first input can have, for arithmetic on shapes."""

    def input(self, index: int) -> Value:
        value = self.optional_input(index)
        if value is None:
            raise self.refusal(f"its input {index} is missing", "export the graph again")
        return value

    def optional_input(self, index: int) -> Value | None:
        return self.inputs[index] if index < len(self.inputs) else None

    def length(self, index: int, axis: int) -> int:
        """Return the length of an input's axis, which must be fixed."""
        shape = self.shapes[index]
        size = shape[axis] if shape is not None else None
        if size is None:
            raise self.refusal(
                f"the length of axis {axis} of its input {index} is not fixed, and the result depends on it",
                "reshape to a constant length before it",
            )
        return size

    def refusal(self, found: str, remedy: str) -> ProofError:
        """Return the error that names this node, what was found and how to mend it."""
        return ProofError(f"{self.operator} {self.name!r} is not proven exact: {found}; {remedy}.")

    def check_limit(self, kind: str, used: float, limit: float, found: str, remedy: str) -> None:
        """Record that ``used`` bits fit ``limit``, or raise."""
        if used > limit:
            raise self.refusal(found, remedy)
        self.checks.append(Check(kind, self.name, self.operator, used, limit))

    def check_fits(self, dtype: str, magnitude: Numbers, exponent: Exponents, kind: str, remedy: str) -> None:
        """Check that ``dtype`` holds every multiple of ``2^exponent`` up to ``magnitude`` exactly."""
        if dtype not in SIGNIFICANDS:
            raise self.refusal(f"it computes in {dtype}", f"compute in {' or '.join(SIGNIFICANDS)}")
        limit, used = SIGNIFICANDS[dtype], log2_steps(magnitude, exponent)
        self.check_limit(kind, used, limit, f"{kind} reach 2^{used:.2f} steps and {dtype} holds 2^{limit}", remedy)
        self.check_range(dtype, magnitude, exponent)

    def check_range(self, dtype: str, magnitude: Numbers, exponent: Exponents) -> None:
        """Check that no multiple of ``2^exponent`` up to ``magnitude`` is subnormal in ``dtype`` or overflows it."""
        finest, largest = EXPONENTS[dtype]
        if int(exponent.min(initial=0)) < finest or log2_steps(magnitude, exponent * 0) > largest:
            raise self.refusal(
                f"its values may leave the exponents of {dtype}, 2^{finest} to 2^{largest}",
                "scale them by a power of two",
            )

    def check_operand(self, value: Value, label: str) -> None:
        """Check an operand of a product, which tensor cores may read as bfloat16, float16, or TF32."""
        found = f"its {label} operand has up to {value.bits} significant bits and bfloat16 holds {OPERAND_BITS}"
        self.check_limit("operand", value.bits, OPERAND_BITS, found, "round and clip it to int8 first")
