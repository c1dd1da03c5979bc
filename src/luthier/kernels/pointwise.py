"""Gated activations and RMS normalisation that keep for backward what they were given, and no more.

T: tokens (any leading shape).  F: width of the gate.  D: hidden size.

The trap is measuring the forward pass alone: eager code is as fast there.  It keeps silu(gate)
beside gate and up, and float32 copies of 16-bit inputs; and the backward of an RMS norm takes
eight passes over memory where three do.
"""

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from luthier.kernels.triton.gated import gated
from luthier.kernels.triton.norm import WIDEST, norm_of_frozen
from luthier.kernels.triton.present import usable

Activation = Literal["silu", "gelu_tanh"]


def swiglu(gate_TF: Tensor, up_TF: Tensor) -> Tensor:
    """silu(gate) * up; keeps gate and up, a third less than eager code.

    Source: Shazeer 2020, https://arxiv.org/abs/2002.05202, eq. 6.
    """
    return _gated(gate_TF, up_TF, "silu")


def geglu(gate_TF: Tensor, up_TF: Tensor) -> Tensor:
    """gelu(gate) * up with the tanh form of gelu (Gemma); see `swiglu`."""
    return _gated(gate_TF, up_TF, "gelu_tanh")


def _gated(gate_TF: Tensor, up_TF: Tensor, activation: Activation) -> Tensor:
    if usable(gate_TF, up_TF):
        return gated(gate_TF, up_TF, silu=activation == "silu")
    y_TF: Tensor = _Gated.apply(gate_TF, up_TF, activation)  # type: ignore[no-untyped-call]
    return y_TF


def gated_plain(gate_TF: Tensor, up_TF: Tensor, activation: Activation = "silu") -> Tensor:
    """The plain twin of both."""
    return _activate(gate_TF, activation) * up_TF


def rms_norm(x_TD: Tensor, weight_D: Tensor, eps: float, *, offset: float = 0.0) -> Tensor:
    """Divide each row by its root mean square and multiply by `offset + weight`.

    The root mean square is in float32 at least.  16-bit results are rounded where the families do
    it: before the weight is applied (Llama, Qwen, Mistral), or after it where `offset` is not 0.

    Args:
        x_TD: Any shape that ends in D.
        weight_D: Frozen or trained.
        eps: Added to the mean square, > 0.
        offset: 1 for Gemma, whose weights are held as differences from 1; else 0.

    Source: Zhang and Sennrich 2019, https://arxiv.org/abs/1910.07467, eq. 4.
    """
    frozen = not weight_D.requires_grad
    if frozen and x_TD.shape[-1] <= WIDEST and usable(x_TD, weight_D):
        return norm_of_frozen(x_TD, weight_D, eps, offset=offset)
    y_TD: Tensor = _RmsNorm.apply(x_TD, weight_D, eps, offset)  # type: ignore[no-untyped-call]
    return y_TD


def rms_norm_plain(x_TD: Tensor, weight_D: Tensor, eps: float, *, offset: float = 0.0) -> Tensor:
    """The plain twin, differentiated by autograd."""
    wide_TD = x_TD.to(_wide(x_TD.dtype))
    normed_TD = wide_TD * torch.rsqrt(wide_TD.square().mean(-1, keepdim=True) + eps)
    if offset:
        return (normed_TD * (offset + weight_D.to(wide_TD.dtype))).to(x_TD.dtype)
    return weight_D * normed_TD.to(x_TD.dtype)


def _activate(gate_TF: Tensor, activation: str) -> Tensor:
    return F.silu(gate_TF) if activation == "silu" else F.gelu(gate_TF, approximate="tanh")


def _wide(dtype: torch.dtype) -> torch.dtype:
    return torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype


class _Gated(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gate_TF: Tensor, up_TF: Tensor, activation: Activation) -> Tensor:
        ctx.save_for_backward(gate_TF, up_TF)
        ctx.activation = activation
        return _activate(gate_TF, activation).mul_(up_TF)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_TF: Tensor) -> tuple[Tensor, Tensor, None]:
        gate_TF, up_TF = ctx.saved_tensors
        inner_TF = grad_TF * up_TF
        if ctx.activation == "silu":
            grad_gate_TF = torch.ops.aten.silu_backward(inner_TF, gate_TF)
        else:
            grad_gate_TF = torch.ops.aten.gelu_backward(inner_TF, gate_TF, approximate="tanh")
        return grad_gate_TF, _activate(gate_TF, ctx.activation).mul_(grad_TF), None


class _RmsNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_TD: Tensor, weight_D: Tensor, eps: float, offset: float) -> Tensor:
        wide_TD = x_TD.to(_wide(x_TD.dtype))
        length_T1 = torch.linalg.vector_norm(wide_TD, dim=-1, keepdim=True)
        rstd_T1 = length_T1.square_().div_(x_TD.shape[-1]).add_(eps).rsqrt_()
        ctx.save_for_backward(x_TD, rstd_T1, weight_D)
        ctx.offset = offset
        normed_TD: Tensor = wide_TD * rstd_T1
        if offset:
            return normed_TD.mul_(offset + weight_D.to(normed_TD.dtype)).to(x_TD.dtype)
        if normed_TD.dtype == x_TD.dtype == weight_D.dtype:
            return normed_TD.mul_(weight_D)
        return normed_TD.to(x_TD.dtype) * weight_D

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_TD: Tensor) -> tuple[Tensor | None, ...]:
        x_TD, rstd_T1, weight_D = ctx.saved_tensors
        for_x, for_weight = ctx.needs_input_grad[:2]
        wide_TD, grad_TD = x_TD.to(rstd_T1.dtype), grad_TD.to(rstd_T1.dtype)
        grad_x = grad_weight = None
        if for_weight:
            summed_D = (grad_TD * wide_TD).mul_(rstd_T1).flatten(0, -2).sum(0)
            grad_weight = summed_D.to(weight_D.dtype)
        if for_x:
            factor_D = weight_D.to(rstd_T1.dtype)
            inner_TD = grad_TD * (factor_D + ctx.offset if ctx.offset else factor_D)
            along_T1 = torch.linalg.vecdot(inner_TD, wide_TD).unsqueeze(-1)
            along_T1 *= rstd_T1**3 / -x_TD.shape[-1]
            grad_x = inner_TD.mul_(rstd_T1).addcmul_(wide_TD, along_T1).to(x_TD.dtype)
        return grad_x, grad_weight, None, None
