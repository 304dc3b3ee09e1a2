"""Ways in which PyTorch can compute the prior: types, reduced-precision products, half operands."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

MATMULS = (torch.matmul, Tensor.matmul, Tensor.__matmul__)


@dataclass(frozen=True)
class Mode:
    """A way in which PyTorch computes the prior.

    ``dtype``: the type of all tensors. ``products``: PyTorch's name for the precision of float32 products (``medium``
    is bfloat16 on a CPU and TF32 on a GPU). ``operands``: the type that operands of matrix products are cast to, while
    sums stay float32; None to leave them.
    """

    name: str
    dtype: torch.dtype = torch.float32
    products: str = "highest"
    operands: torch.dtype | None = None


MODES = (
    Mode("fp64", torch.float64),
    Mode("fp32"),
    Mode("fp32-reduced", products="medium"),
    Mode("fp16-operands", operands=torch.float16),
    Mode("bf16-operands", operands=torch.bfloat16),
)


class _Operands(TorchFunctionMode):
    """Casts the operands of every product and sums in float32, on a GPU in its half-precision kernels."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func in MATMULS:
            return self._product(args[0], args[1])
        if func is F.linear:
            bias = args[2] if len(args) > 2 else None
            product = self._product(args[0].flatten(0, -2), args[1].t()).reshape(*args[0].shape[:-1], -1)
            return product if bias is None else product + bias
        return func(*args, **(kwargs or {}))

    def _product(self, a: Tensor, b: Tensor) -> Tensor:
        a, b = a.to(self.dtype), b.to(self.dtype)
        if not a.is_cuda:
            return a.float() @ b.float()
        if a.ndim == 2:
            return torch.mm(a, b, out_dtype=torch.float32)
        product = torch.bmm(a.flatten(0, -3), b.flatten(0, -3), out_dtype=torch.float32)
        return product.reshape(*a.shape[:-1], -1)


@contextmanager
def computing(mode: Mode) -> Iterator[None]:
    """Run the block's products as the mode says."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(mode.products)
    try:
        if mode.operands is None:
            yield
        else:
            with _Operands(mode.operands):
                yield
    finally:
        torch.set_float32_matmul_precision(before)
