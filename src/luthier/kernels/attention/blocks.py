"""One block of attention, forward and backward, with its log-sum-exp so that blocks can be joined.

q: (1, H, Q, D) queries; k, v: (1, K, N, D) keys and values, H a multiple of K.  lse: (1, H, Q).
Two forms with one meaning: `flash` is torch's fused CPU kernel, `plain` is written out and knows
soft caps.  In backward, `out` and `lse` are those of the *whole* row of attention, not of the
block: the block's part of the gradient follows from them alone (Dao 2022, FlashAttention,
https://arxiv.org/abs/2205.14135, algorithm 4).
"""

from typing import NamedTuple

import torch
from torch import Tensor

from luthier.kernels.planned import device_kind


class Block(NamedTuple):
    """What is asked of a block besides its tensors."""

    scale: float
    causal: bool = False  # queries and keys are the same rows
    allowed: Tensor | None = None  # (Q, N) bool; None: everything (or the causal half)
    softcap: float | None = None


def flash_forward(q: Tensor, k: Tensor, v: Tensor, block: Block) -> tuple[Tensor, Tensor]:
    """Attention of a block: out (1, H, Q, D) in q's dtype and lse in float32 (float64 for float64)."""
    out, lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
        q, k, v, 0.0, block.causal, attn_mask=_additive(block, q), scale=block.scale
    )
    return out, lse


def flash_backward(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, block: Block
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of q, k, v; the CPU kernel sums over the queries of a key head itself."""
    mask = _additive(block, q)
    gradients: tuple[Tensor, Tensor, Tensor] = (
        torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward(
            grad, q, k, v, out, lse, 0.0, block.causal, attn_mask=mask, scale=block.scale
        )
    )
    return gradients


def _additive(block: Block, like: Tensor) -> Tensor | None:
    if block.allowed is None:
        return None
    mask = torch.zeros(block.allowed.shape, dtype=like.dtype, device=like.device)
    return mask.masked_fill_(~block.allowed, float("-inf"))


def plain_forward(q: Tensor, k: Tensor, v: Tensor, block: Block) -> tuple[Tensor, Tensor]:
    """As `flash_forward`, with soft caps, on any device, for values of another width than keys."""
    work = _work_dtype(q)
    scores, _ = _scores(q, k, block)
    lse = scores.logsumexp(-1)
    weights = (scores - lse[..., None]).exp_().to(work)
    out = torch.matmul(weights, v[0, :, None].to(work))
    return out.flatten(0, 1)[None].to(q.dtype), lse.flatten(0, 1)[None]


def plain_backward(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, block: Block
) -> tuple[Tensor, Tensor, Tensor]:
    """As `flash_backward`."""
    work, groups = _work_dtype(q), k.shape[1]
    scores, squashed = _scores(q, k, block)
    weights = (scores - _grouped(lse, groups)[..., None]).exp_()
    grad_g, q_g = (_grouped(x, groups).to(work) for x in (grad, q))
    keys, values = (x[0, :, None].to(work) for x in (k, v))
    delta = (grad.float() * out.float() if work != torch.float64 else grad * out).sum(-1)
    slope = torch.matmul(grad_g, values.transpose(-1, -2)) - _grouped(delta, groups)[..., None]
    slope = slope.mul(weights).mul_(block.scale)
    if squashed is not None:  # d cap * tanh(s / cap) / ds = 1 - tanh^2
        slope = slope * (1 - squashed.square())
    slope, weights = slope.to(work), weights.to(work)
    grad_q = torch.matmul(slope, keys).flatten(0, 1)[None]
    grad_k = torch.matmul(slope.transpose(-1, -2), q_g).sum(1)[None]
    grad_v = torch.matmul(weights.transpose(-1, -2), grad_g).sum(1)[None]
    return grad_q.to(q.dtype), grad_k.to(k.dtype), grad_v.to(v.dtype)


def _work_dtype(q: Tensor) -> torch.dtype:
    """Products on a CPU run in float32 at least (faster, and exact enough to test); elsewhere as given."""
    return (
        torch.promote_types(q.dtype, torch.float32) if device_kind(q.device) == "cpu" else q.dtype
    )


def _grouped(x: Tensor, groups: int) -> Tensor:
    """(1, H, ...) as (K, H / K, ...): the query heads of each key head."""
    return x[0].reshape(groups, -1, *x.shape[2:])


def _scores(q: Tensor, k: Tensor, block: Block) -> tuple[Tensor, Tensor | None]:
    """Masked scores (K, H / K, Q, N), float32 at least, and tanh(s / cap) where there is a cap."""
    work = _work_dtype(q)
    q_g, keys = _grouped(q, k.shape[1]).to(work), k[0, :, None].to(work)
    scores = torch.matmul(q_g, keys.transpose(-1, -2))
    scores = scores.to(torch.promote_types(work, torch.float32)) * block.scale
    squashed = None
    if block.softcap is not None:
        squashed = torch.tanh(scores / block.softcap)
        scores = squashed * block.softcap
    allowed = block.allowed
    if block.causal:
        size = scores.shape[-2:]
        allowed = torch.ones(size, dtype=torch.bool, device=q.device).tril_()
    if allowed is not None:
        scores = scores.masked_fill(~allowed, float("-inf"))
    return scores, squashed
