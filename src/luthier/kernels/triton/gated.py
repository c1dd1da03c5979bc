"""silu(gate) * up and gelu(gate) * up on CUDA, one kernel each way.

The twins are `swiglu` and `geglu` of `kernels.pointwise`.  Operators of torch with a fake form, so
that a dry run sees one launch that reads its inputs and writes its outputs, as the GPU does.
"""

from typing import Any

import torch
from torch import Tensor

from luthier.kernels.triton.present import launch

BLOCK = 1024
"""Elements a program."""

_KERNELS = "gated_kernels"


@torch.library.custom_op("luthier::gated", mutates_args=())
def _gated(gate: Tensor, up: Tensor, silu: bool) -> Tensor:
    y = torch.empty_like(gate)
    given = (gate, up, y, gate.numel())
    launch(_KERNELS, "gated_forward", _programs(gate), given, SILU=silu, BLOCK=BLOCK)
    return y


@torch.library.custom_op("luthier::gated_backward", mutates_args=())
def _gated_backward(grad: Tensor, gate: Tensor, up: Tensor, silu: bool) -> tuple[Tensor, Tensor]:
    grad_gate, grad_up = torch.empty_like(gate), torch.empty_like(up)
    given = (grad, gate, up, grad_gate, grad_up, gate.numel())
    launch(_KERNELS, "gated_backward", _programs(gate), given, SILU=silu, BLOCK=BLOCK)
    return grad_gate, grad_up


@_gated.register_fake
def _(gate: Tensor, up: Tensor, silu: bool) -> Tensor:
    return torch.empty_like(gate)


@_gated_backward.register_fake
def _(grad: Tensor, gate: Tensor, up: Tensor, silu: bool) -> tuple[Tensor, Tensor]:
    return torch.empty_like(gate), torch.empty_like(up)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    gate, up, ctx.silu = inputs
    ctx.save_for_backward(gate, up)


def _differentiate(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
    grad_gate, grad_up = _gated_backward(grad.contiguous(), *ctx.saved_tensors, ctx.silu)
    return grad_gate, grad_up, None


_gated.register_autograd(_differentiate, setup_context=_setup)


def gated(gate: Tensor, up: Tensor, *, silu: bool) -> Tensor:
    """The activation of the gate times `up`; same shape and dtype, 16 bits or float32.

    Args:
        silu: Or else the tanh form of gelu.
    """
    y: Tensor = _gated(gate.contiguous(), up.contiguous(), silu)
    return y


def _programs(gate: Tensor) -> int:
    return -(-gate.numel() // BLOCK)
