"""RMS norm with a frozen weight on CUDA, one kernel each way.

T: rows.  D: width of a row, at most `WIDEST`, since a program holds a row in registers.

The twin is `rms_norm` of `kernels.pointwise`, which also serves trained weights.
"""

from typing import Any

import torch
from torch import Tensor

from luthier.kernels.triton.present import launch

WIDEST = 16384

_KERNELS = "norm_kernels"


@torch.library.custom_op("luthier::rms_norm", mutates_args=())
def _rms_norm(x: Tensor, weight: Tensor, eps: float, offset: float) -> tuple[Tensor, Tensor]:
    width = x.shape[-1]
    y, rstd = torch.empty_like(x), _rows(x)
    block, warps = _sizes(width)
    given = (x, weight, y, rstd, width, eps, offset)
    after = offset != 0.0
    launch(_KERNELS, "norm_forward", rstd.numel(), given, AFTER=after, BLOCK=block, num_warps=warps)
    return y, rstd


@torch.library.custom_op("luthier::rms_norm_backward", mutates_args=())
def _rms_norm_backward(
    grad: Tensor, x: Tensor, weight: Tensor, rstd: Tensor, offset: float
) -> Tensor:
    width = x.shape[-1]
    grad_x = torch.empty_like(x)
    block, warps = _sizes(width)
    given = (grad, x, weight, rstd, grad_x, width, offset)
    launch(_KERNELS, "norm_backward", rstd.numel(), given, BLOCK=block, num_warps=warps)
    return grad_x


@_rms_norm.register_fake
def _(x: Tensor, weight: Tensor, eps: float, offset: float) -> tuple[Tensor, Tensor]:
    return torch.empty_like(x), _rows(x)


@_rms_norm_backward.register_fake
def _(grad: Tensor, x: Tensor, weight: Tensor, rstd: Tensor, offset: float) -> Tensor:
    return torch.empty_like(x)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    x, weight, _, ctx.offset = inputs
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(x, weight, output[1])


def _differentiate(ctx: Any, grad: Tensor | None, _: Tensor | None) -> tuple[Tensor | None, ...]:
    if grad is None:
        return None, None, None, None
    x, weight, rstd = ctx.saved_tensors
    return _rms_norm_backward(grad.contiguous(), x, weight, rstd, ctx.offset), None, None, None


_rms_norm.register_autograd(_differentiate, setup_context=_setup)


def norm_of_frozen(x: Tensor, weight: Tensor, eps: float, *, offset: float) -> Tensor:
    """As `rms_norm`; the weight receives no gradient."""
    assert not weight.requires_grad, "this form gives the weight no gradient"
    y: Tensor = _rms_norm(x.contiguous(), weight.contiguous(), eps, offset)[0]
    return y


def _rows(x: Tensor) -> Tensor:
    return x.new_empty(x.shape[:-1], dtype=torch.float32)


def _sizes(width: int) -> tuple[int, int]:
    """Columns of a program, a power of two, and its warps."""
    block = max(16, 1 << (width - 1).bit_length())
    return block, min(max(block // 512, 1), 16)
