"""A linear layer whose weight is frozen: quantised, or in a dtype the CPU cannot multiply fast.

T: tokens.  I: inputs.  O: outputs.

The trap is what autograd would keep: the dequantised weight of every layer until backward.  Here
it is made twice, and lives for one product each time.
"""

from typing import Any, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from luthier.kernels.cpu import matmul_dtype


@runtime_checkable
class Dequantisable(Protocol):
    """A frozen weight that is stored in fewer bits."""

    def dequantised(self) -> Tensor:
        """The weight, shape (O, I), in a dtype that products are made in."""
        ...


def dense(weight: Tensor | Dequantisable, dtype: torch.dtype) -> Tensor:
    """The weight as a plain tensor of `dtype`; itself where it is that already."""
    return (weight if isinstance(weight, Tensor) else weight.dequantised()).to(dtype)


def frozen_linear(
    x: Tensor,
    weight: Tensor | Dequantisable,
    bias_O: Tensor | None = None,
    *,
    transposed: bool = False,
) -> Tensor:
    """Multiply with a frozen weight; the gradient goes to `x` alone.

    Args:
        x: Any shape that ends in I.
        weight: (O, I), or (I, O) if `transposed` (GPT-2's Conv1D); requires no gradient.
        bias_O: Frozen, or None.

    Returns:
        Shape of `x` with O for I, in the dtype of `x`.
    """
    if isinstance(weight, Tensor):
        assert not weight.requires_grad, "frozen_linear gives a trained weight no gradient"
        if weight.dtype == x.dtype == matmul_dtype(x.dtype, x.device):
            return F.linear(x, weight.t() if transposed else weight, bias_O)
    y: Tensor = _FrozenLinear.apply(x, weight, bias_O, transposed)  # type: ignore[no-untyped-call]
    return y


class _FrozenLinear(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor | Dequantisable, bias_O: Tensor | None, transposed: bool
    ) -> Tensor:
        dtype = matmul_dtype(x.dtype, x.device)
        weight_OI = dense(weight, dtype)
        weight_OI = weight_OI.t() if transposed else weight_OI
        bias_O = None if bias_O is None else bias_O.to(dtype)
        # Not save_for_backward: what is frozen cannot change, and hooks must not move it.
        ctx.weight, ctx.transposed = weight, transposed
        return F.linear(x.to(dtype), weight_OI, bias_O).to(x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        dtype = matmul_dtype(grad.dtype, grad.device)
        weight_OI = dense(ctx.weight, dtype)
        weight_OI = weight_OI.t() if ctx.transposed else weight_OI
        return (grad.to(dtype) @ weight_OI).to(grad.dtype), None, None, None
