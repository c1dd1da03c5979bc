"""A frozen linear layer and its low-rank adapter in one autograd function.

T: tokens.  I: inputs.  O: outputs.  R: rank.

y = x W' + b + scale * dropout(x) A' B', with x read from one saved tensor: kept for backward are x,
which the layer's siblings (query, key, value) share, and x A', which is T x R.  No scaled, cast or
dropped-out copy of x outlives the call.  A and B are float32 masters: they are cast for the
product, and their gradients are float32.

Source: Hu et al. 2021, https://arxiv.org/abs/2106.09685, eq. 3; rank-stabilised scaling, alpha
over the root of the rank: Kalajdzievski 2023, https://arxiv.org/abs/2312.03732.
"""

import math
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from luthier.kernels.cpu import matmul_dtype, wide_mm
from luthier.kernels.dropout import TokenKeys, dropout_plain, kept, upscale
from luthier.kernels.frozen_linear import Dequantisable, dense


def lora_scale(alpha: float, rank: int, *, rank_stabilised: bool = False) -> float:
    """The factor on the adapter's output: alpha over the rank, or over its root."""
    return alpha / (math.sqrt(rank) if rank_stabilised else rank)


def lora_linear(
    x: Tensor,
    weight: Tensor | Dequantisable,
    bias_O: Tensor | None,
    lora_A_RI: Tensor,
    lora_B_OR: Tensor,
    scale: float,
    *,
    transposed: bool = False,
    dropout: float = 0.0,
    keys: TokenKeys | None = None,
    module: int = 0,
) -> Tensor:
    """Multiply with a frozen weight and add the adapter's output.

    Args:
        x: Any shape that ends in I; its rows are those of `keys`, in order.
        weight: (O, I), or (I, O) if `transposed` (GPT-2's Conv1D), frozen; or an object that
            dequantises itself, which is asked again in backward.
        bias_O: Frozen, or None.
        lora_A_RI: Float32; receives a float32 gradient.
        lora_B_OR: Likewise.
        scale: See `lora_scale`.
        dropout: Share of the adapter's inputs to drop, 0 <= dropout < 1; give 0 to evaluate.
        keys: Tokens of this forward pass; needed where dropout is above 0.
        module: Number of this layer among all, so that no two share a mask; see `module_number`.

    Returns:
        Shape of `x` with O for I, in the dtype of `x`.
    """
    if isinstance(weight, Tensor):
        assert not weight.requires_grad, "lora_linear gives a trained base weight no gradient"
    call = _Call(weight, bias_O, scale, transposed, dropout)
    key_T = _module_keys(x, dropout, keys, module)
    y: Tensor = _LoraLinear.apply(x, lora_A_RI, lora_B_OR, key_T, call)  # type: ignore[no-untyped-call]
    return y


def lora_linear_plain(
    x: Tensor,
    weight: Tensor | Dequantisable,
    bias_O: Tensor | None,
    lora_A_RI: Tensor,
    lora_B_OR: Tensor,
    scale: float,
    *,
    transposed: bool = False,
    dropout: float = 0.0,
    keys: TokenKeys | None = None,
    module: int = 0,
) -> Tensor:
    """The plain twin: the formula, differentiated by autograd."""
    weight_OI = dense(weight, x.dtype).detach()
    y = F.linear(x, weight_OI.t() if transposed else weight_OI, bias_O)
    key_T = _module_keys(x, dropout, keys, module)
    if key_T is not None:
        x = dropout_plain(x.reshape(-1, x.shape[-1]), key_T, dropout).view(x.shape)
    return y + scale * (x @ lora_A_RI.to(x.dtype).t() @ lora_B_OR.to(x.dtype).t())


def _module_keys(x: Tensor, dropout: float, keys: TokenKeys | None, module: int) -> Tensor | None:
    if dropout == 0.0:
        return None
    assert keys is not None, "dropout needs the tokens it is a function of"
    key_T = keys.of_module(module)
    rows = x.numel() // x.shape[-1]
    assert len(key_T) == rows, f"keys of {len(key_T)} tokens for {rows} rows"
    return key_T


class _Call(NamedTuple):
    """What a call needs beside the tensors that are differentiated."""

    weight: Tensor | Dequantisable
    bias_O: Tensor | None
    scale: float
    transposed: bool
    dropout: float

    def dense_weight(self, dtype: torch.dtype) -> Tensor:
        weight = dense(self.weight, dtype)
        return weight.t() if self.transposed else weight


class _LoraLinear(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        lora_A_RI: Tensor,
        lora_B_OR: Tensor,
        key_T: Tensor | None,
        call: _Call,
    ) -> Tensor:
        dtype = matmul_dtype(x.dtype, x.device)
        x_TI = x.reshape(-1, x.shape[-1]).to(dtype)
        bias_O = None if call.bias_O is None else call.bias_O.to(dtype)
        y_TO = F.linear(x_TI, call.dense_weight(dtype), bias_O)
        scale = call.scale
        if key_T is not None:
            x_TI = x_TI * kept(key_T, x_TI.shape[1], call.dropout)
            scale *= upscale(call.dropout)
        low_TR = x_TI @ lora_A_RI.to(dtype).t()
        y_TO.addmm_(low_TR, lora_B_OR.to(dtype).t(), alpha=scale)
        ctx.save_for_backward(x, low_TR, lora_A_RI, lora_B_OR, key_T)
        # The frozen weight stays out of it: it cannot change, and hooks must not move it.
        ctx.call, ctx.scale = call, scale
        return y_TO.to(x.dtype).view(*x.shape[:-1], y_TO.shape[1])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, low_TR, lora_A_RI, lora_B_OR, key_T = ctx.saved_tensors
        for_x, for_A, for_B = ctx.needs_input_grad[:3]
        call: _Call = ctx.call
        grad_x = grad_A = grad_B = None
        dtype = low_TR.dtype
        grad_TO = grad.reshape(-1, grad.shape[-1]).to(dtype)
        if for_B:
            grad_B = wide_mm(grad_TO.t(), low_TR).mul_(ctx.scale).to(lora_B_OR.dtype)
        if not (for_x or for_A):
            return None, None, grad_B, None, None
        low_grad_TR = grad_TO @ lora_B_OR.to(dtype)
        keep_TI = None if key_T is None else kept(key_T, x.shape[-1], call.dropout)
        if for_A:
            x_TI = x.reshape(-1, x.shape[-1]).to(dtype)
            x_TI = x_TI if keep_TI is None else x_TI * keep_TI
            grad_A = wide_mm(low_grad_TR.t(), x_TI).mul_(ctx.scale).to(lora_A_RI.dtype)
        if for_x:
            grad_TI = grad_TO @ call.dense_weight(dtype)
            if keep_TI is None:
                grad_TI.addmm_(low_grad_TR, lora_A_RI.to(dtype), alpha=ctx.scale)
            else:
                part_TI = (low_grad_TR @ lora_A_RI.to(dtype)).mul_(keep_TI)
                grad_TI.add_(part_TI, alpha=ctx.scale)
            grad_x = grad_TI.to(x.dtype).view(x.shape)
        return grad_x, grad_A, grad_B, None, None
