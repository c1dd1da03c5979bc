"""Log-probability of each target from hidden states and the head's weight, without S x V logits.

S: supervised targets.  D: hidden size.  V: vocabulary.  C: rows of one chunk.

The trap: with a frozen head nothing has to be recomputed in backward, whatever the objective.  The
derivative of a row's loss with respect to its hidden state is a number (which the objective
gives) times a vector (which it does not know): the unit gradient dlogp/dhidden.  That is made in
the forward pass, from logits that are at hand.  A head that is trained needs V x D gradients of
the whole, which depend on those numbers: there the logits are made again in backward.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from luthier.kernels.cpu import matmul_dtype, wide_mm
from luthier.kernels.planned import device_kind

LOGITS_BYTES = 64 * 2**20  # of one chunk, in float32; 256 MiB on CUDA, where launches cost more
LOGITS_BYTES_CUDA = 256 * 2**20
BLOCK_BYTES = 8 * 2**20  # of the weight, cast at a time where 16-bit products are emulated
_LOW = (torch.float16, torch.bfloat16)


def head_logprob(
    hidden_SD: Tensor,
    weight_VD: Tensor,
    target_S: Tensor,
    *,
    bias_V: Tensor | None = None,
    softcap: float | None = None,
    scale: float = 1.0,
    chunk_rows: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Give the log-probability of each target, and whether it was the most likely token.

    Logits are `softcap * tanh(scale * (hidden @ weight.T + bias) / softcap)`.  Softmax is in
    float32, or in float64 where the hidden states are.

    Args:
        hidden_SD: Final hidden states of the rows that predict a target, after the last norm.
        weight_VD: The head; may require a gradient, and may be the embedding.
        target_S: Token each row should predict, int64, 0 to V - 1.
        bias_V: Bias of the head, where it has one.
        softcap: Bound of the logits (Gemma 2: 30), > 0; None for none.
        scale: Factor on the logits (Cohere's `logit_scale`, one over Granite's `logits_scaling`).
        chunk_rows: Rows whose logits are held at once; None chooses 64 MiB of them (256 on CUDA).

    Returns:
        logp_S in nats, float32 (float64 for float64); top1_S, bool, ties count as right.
    """
    most = chunk_rows or default_chunk_rows(hidden_SD, len(weight_VD), capped=softcap is not None)
    chunks = max(1, -(-len(target_S) // most))  # even ones: a last one of one row costs a weight
    rows = max(1, -(-len(target_S) // chunks))
    head = _Head(softcap, scale, rows, torch.is_grad_enabled())
    pair: tuple[Tensor, Tensor] = _HeadLogprob.apply(  # type: ignore[no-untyped-call]
        hidden_SD, weight_VD, bias_V, target_S, head
    )
    return pair


def head_logprob_plain(
    hidden_SD: Tensor,
    weight_VD: Tensor,
    target_S: Tensor,
    *,
    bias_V: Tensor | None = None,
    softcap: float | None = None,
    scale: float = 1.0,
) -> tuple[Tensor, Tensor]:
    """The plain twin: all logits, log_softmax, gather; differentiated by autograd."""
    logit_SV = F.linear(hidden_SD, weight_VD, bias_V) * scale
    if logit_SV.dtype in _LOW:
        logit_SV = logit_SV.float()
    if softcap is not None:
        logit_SV = softcap * torch.tanh(logit_SV / softcap)
    logp_S = logit_SV.log_softmax(-1).gather(-1, target_S[:, None])[:, 0]
    return logp_S, logit_SV.argmax(-1) == target_S


def default_chunk_rows(hidden_SD: Tensor, vocabulary: int, *, capped: bool) -> int:
    """Rows of a chunk: what the byte budget holds, at least 128.

    Fewer rows would read the whole weight for little work.  A soft cap needs a second buffer.
    """
    budget = LOGITS_BYTES_CUDA if device_kind(hidden_SD.device) == "cuda" else LOGITS_BYTES
    width = 8 if hidden_SD.dtype == torch.float64 else 4
    return max(128, budget // (vocabulary * width * (2 if capped else 1)))


class _Head:
    """The constants of a head: everything about the logits that is not a tensor."""

    def __init__(self, softcap: float | None, scale: float, rows: int, graph: bool) -> None:
        self.softcap, self.scale, self.rows, self.graph = softcap, scale, rows, graph

    def buffer(self, hidden_SD: Tensor, weight_VD: Tensor) -> Tensor:
        """Room for the logits of one chunk, written anew for each: pages are touched once."""
        shape = (min(self.rows, len(hidden_SD)), len(weight_VD))
        return hidden_SD.new_empty(shape, dtype=_wide(hidden_SD.dtype))

    def logits(
        self, hidden_CD: Tensor, weight_VD: Tensor, bias_V: Tensor | None, buffer_CV: Tensor
    ) -> Tensor:
        """Capped and scaled logits of a chunk, in at least float32, in the buffer."""
        logit_CV = buffer_CV[: len(hidden_CD)]
        _times_transposed(hidden_CD, weight_VD, logit_CV)
        if bias_V is not None:
            logit_CV += bias_V
        if self.scale != 1.0:
            logit_CV *= self.scale
        if self.softcap is not None:
            logit_CV.div_(self.softcap).tanh_().mul_(self.softcap)
        return logit_CV

    def slope(self, logit_CV: Tensor) -> Tensor | float:
        """Derivative of each logit with respect to the plain product."""
        if self.softcap is None:
            return self.scale
        slope_CV = (logit_CV / self.softcap).square_()
        return slope_CV.mul_(-self.scale).add_(self.scale)


def _wide(dtype: torch.dtype) -> torch.dtype:
    return torch.float32 if dtype in _LOW else dtype


def _times_transposed(hidden_CD: Tensor, weight_VD: Tensor, out_CV: Tensor) -> None:
    """Write hidden @ weight.T; a weight of another dtype is cast a block of rows at a time."""
    dtype = matmul_dtype(hidden_CD.dtype, hidden_CD.device)
    hidden_CD = hidden_CD.to(dtype)
    for start, stop in _blocks(weight_VD, cast=weight_VD.dtype != dtype):
        block_BD, place_CB = weight_VD[start:stop].to(dtype), out_CV[:, start:stop]
        if dtype in _LOW:
            place_CB.copy_(wide_mm(hidden_CD, block_BD.t()))
        else:
            torch.mm(hidden_CD, block_BD.t(), out=place_CB)


def _times_weight(grad_CV: Tensor, weight_VD: Tensor, dtype: torch.dtype) -> Tensor:
    """grad @ weight in at least float32; `dtype` is that of the hidden states."""
    dtype = matmul_dtype(dtype, grad_CV.device)
    grad_CV = grad_CV.to(dtype)
    total_CD: Tensor | None = None
    for start, stop in _blocks(weight_VD, cast=weight_VD.dtype != dtype):
        part_CD = wide_mm(grad_CV[:, start:stop], weight_VD[start:stop].to(dtype))
        total_CD = part_CD if total_CD is None else total_CD.add_(part_CD)
    assert total_CD is not None, "a head has at least one row"
    return total_CD


def _for_products(hidden_SD: Tensor, weight_VD: Tensor) -> Tensor:
    """The weight for all chunks of a call: on CUDA cast at once, since there launches cost more."""
    if device_kind(hidden_SD.device) != "cuda":
        return weight_VD
    return weight_VD.to(hidden_SD.dtype)


def _blocks(weight_VD: Tensor, *, cast: bool) -> list[tuple[int, int]]:
    """Spans of the vocabulary: everything at once, unless a cast copy of it would be large."""
    total, width = weight_VD.shape
    size = max(256, BLOCK_BYTES // (4 * width)) if cast else max(total, 1)
    return [(at, min(at + size, total)) for at in range(0, total, size)]


class _HeadLogprob(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden_SD: Tensor,
        weight_VD: Tensor,
        bias_V: Tensor | None,
        target_S: Tensor,
        head: _Head,
    ) -> tuple[Tensor, Tensor]:
        for_hidden, for_weight, for_bias = (head.graph and n for n in ctx.needs_input_grad[:3])
        trained = for_weight or for_bias
        wide, total = _wide(hidden_SD.dtype), len(hidden_SD)
        buffer_CV = head.buffer(hidden_SD, weight_VD)
        cast_VD = _for_products(hidden_SD, weight_VD)
        logp_S = hidden_SD.new_empty(total, dtype=wide)
        norm_S = hidden_SD.new_empty(total, dtype=wide)  # log of the sum of the exponentials
        top1_S = torch.empty(total, dtype=torch.bool, device=hidden_SD.device)
        unit = for_hidden and not trained
        unit_SD = torch.empty_like(hidden_SD) if unit else None
        # Float16 has no room below 6e-8: rows are held relative to their largest entry.
        size_S = logp_S.new_ones(total) if unit and hidden_SD.dtype == torch.float16 else None
        for start in range(0, total, head.rows):
            rows = slice(start, min(start + head.rows, total))
            logit_CV = head.logits(hidden_SD[rows], cast_VD, bias_V, buffer_CV)
            slope_CV = head.slope(logit_CV) if unit else 0.0
            target_C1 = target_S[rows, None]
            chosen_C1 = logit_CV.gather(1, target_C1)
            largest_C1 = logit_CV.amax(1, keepdim=True)
            top1_S[rows] = (chosen_C1 >= largest_C1)[:, 0]
            # The others are summed apart from the target: a certain token, whose loss and gradient
            # are its distance from 1, keeps every digit of both.
            power_CV = logit_CV.sub_(largest_C1).exp_().scatter_(1, target_C1, 0.0)
            chosen_C1 -= largest_C1
            others_C1 = power_CV.sum(1, keepdim=True)
            log_sum_C1 = (others_C1 + chosen_C1.expm1()).log1p_()
            logp_S[rows] = (chosen_C1 - log_sum_C1)[:, 0]
            norm_S[rows] = (largest_C1 + log_sum_C1)[:, 0]
            if unit_SD is None:
                continue
            power_CV.scatter_(1, target_C1, -others_C1)
            unit_CD = _unit_gradient(power_CV, log_sum_C1.exp(), slope_CV, cast_VD, hidden_SD.dtype)
            if size_S is not None:
                size_S[rows] = unit_CD.abs().amax(1).clamp_(min=1e-30)
                unit_CD /= size_S[rows, None]
            unit_SD[rows] = unit_CD
        ctx.mark_non_differentiable(top1_S)
        ctx.trained, ctx.head, ctx.wanted = trained, head, (for_hidden, for_weight, for_bias)
        if trained:
            ctx.save_for_backward(hidden_SD, weight_VD, bias_V, target_S, norm_S, logp_S)
        else:
            ctx.save_for_backward(unit_SD, size_S)
        return logp_S, top1_S

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_S: Tensor, _: Tensor | None) -> tuple[Tensor | None, ...]:
        if ctx.trained:
            return (*_backward_trained(ctx, grad_S), None, None)
        unit_SD, size_S = ctx.saved_tensors
        if unit_SD is None:
            return None, None, None, None, None
        factor_S = grad_S if size_S is None else grad_S * size_S
        # In float32: all rows share a factor, and its rounding would be an error of the whole.
        return (unit_SD * factor_S[:, None]).to(unit_SD.dtype), None, None, None, None


def _unit_gradient(
    minus_CV: Tensor,
    sum_C1: Tensor,
    slope_CV: Tensor | float,
    weight_VD: Tensor,
    dtype: torch.dtype,
) -> Tensor:
    """dlogp/dhidden of a chunk, in at least float32.

    `minus_CV` is (softmax - onehot) times the sum of a row, and is overwritten; the division comes
    after the product, for D numbers a row instead of V.
    """
    if isinstance(slope_CV, Tensor):
        minus_CV *= slope_CV
        factor_C1 = -1.0 / sum_C1
    else:
        factor_C1 = -slope_CV / sum_C1
    if dtype in _LOW:  # a product in 16 bits needs entries between -1 and 1
        minus_CV *= factor_C1
        return _times_weight(minus_CV, weight_VD, dtype)
    return _times_weight(minus_CV, weight_VD, dtype).mul_(factor_C1)


def _backward_trained(ctx: Any, grad_S: Tensor) -> tuple[Tensor | None, ...]:
    hidden_SD, weight_VD, bias_V, target_S, norm_S, logp_S = ctx.saved_tensors
    for_hidden, for_weight, for_bias = ctx.wanted
    head: _Head = ctx.head
    dtype = matmul_dtype(hidden_SD.dtype, hidden_SD.device)
    buffer_CV = head.buffer(hidden_SD, weight_VD)
    cast_VD = _for_products(hidden_SD, weight_VD)
    grad_SD = torch.empty_like(hidden_SD) if for_hidden else None
    # Summed in float32 over the chunks; autograd casts once, to the dtype of the weight.
    grad_VD = torch.zeros_like(weight_VD, dtype=norm_S.dtype) if for_weight else None
    grad_V = torch.zeros_like(bias_V, dtype=norm_S.dtype) if for_bias else None
    for start in range(0, len(hidden_SD), head.rows):
        rows = slice(start, min(start + head.rows, len(hidden_SD)))
        logit_CV = head.logits(hidden_SD[rows], cast_VD, bias_V, buffer_CV)
        slope_CV = head.slope(logit_CV)
        grad_CV = logit_CV.sub_(norm_S[rows, None]).exp_()
        chosen_C1 = logp_S[rows, None].expm1()  # softmax - 1 at the target, with every digit
        grad_CV.scatter_(1, target_S[rows, None], chosen_C1)
        grad_CV *= -grad_S[rows, None]
        grad_CV *= slope_CV
        if grad_V is not None:
            grad_V += grad_CV.sum(0)
        if grad_SD is not None:
            grad_SD[rows] = _times_weight(grad_CV, cast_VD, hidden_SD.dtype)
        if grad_VD is not None:
            if dtype in _LOW:
                grad_VD += wide_mm(grad_CV.to(dtype).t(), hidden_SD[rows].to(dtype))
            else:
                grad_VD.addmm_(grad_CV.t(), hidden_SD[rows].to(dtype))
    return grad_SD, grad_VD, grad_V
