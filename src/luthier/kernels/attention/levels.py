"""Attention over a prefix tree on CUDA: one call for all nodes, one more for each level of sharing.

T: rows; H: query heads; K: key heads; D: width of a head.

The first call is causal and lets every node see itself.  Then, for each depth of the tree, one call
without a mask lets all descendants of that depth's nodes see them: with the nodes depth-first they
are runs of rows, so no key is copied, and what a shared prefix gets as gradient is added up in
float32, inside the kernel and between the calls.  Calls are joined by their log-sum-exp (Dao 2022,
FlashAttention, https://arxiv.org/abs/2205.14135, section 3.1).

A sliding window that ends inside a shared node is at another place for each of its descendants:
there each node is given the keys within its window, copied, for the time of the call alone.
"""

from typing import Any

import torch
from torch import Tensor

from luthier.kernels.attention import flash
from luthier.kernels.attention.flash import Look
from luthier.kernels.attention.layout import TreeLayout


def level_attention(
    q: Tensor, k: Tensor, v: Tensor, layout: TreeLayout, *, scale: float, window: int | None
) -> Tensor:
    """Attention of every row to its path: (1, H, T, D) to (1, T, H, D).

    Args:
        q: Float16 or bfloat16 on a CUDA device of compute capability 8.0 or more; on a CPU, where
            the plain twin of each call runs, any dtype.
        k: (1, K, T, D).
        v: (1, K, T, D).
        layout: The tree.
        scale: Of the scores.
        window: Tokens seen, the query's own included; None for all.
    """
    window = window if layout.cuts(window) else None
    form = _Levels if window is None or layout.is_forest_of_leaves else _Windows
    out: Tensor = form.apply(q, k, v, layout, Look(scale, window))  # type: ignore[no-untyped-call]
    return out


def _rows(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(1, H, T, D) as (T, H, D)."""
    return tuple(x.squeeze(0).transpose(0, 1) for x in (q, k, v))  # type: ignore[return-value]


def _wide(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)


class _Levels(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, layout: TreeLayout, look: Look
    ) -> Tensor:
        q_THD, k_TKD, v_TKD = _rows(q, k, v)
        own, levels = layout.own_call(), layout.levels()
        out_THD, lse_HT = flash.outputs(q_THD, k_TKD, v_TKD, own, look)
        if levels:
            sum_THD = out_THD.to(_wide(out_THD.dtype))
            for level in levels:
                part_THD, part_HT = flash.outputs(q_THD, k_TKD, v_TKD, level.call, look)
                part_HT = part_HT.masked_fill(level.outside_T, -torch.inf)
                share_HT = torch.sigmoid(part_HT - lse_HT)
                sum_THD.lerp_(part_THD.to(sum_THD.dtype), share_HT.t()[..., None])
                lse_HT = torch.logaddexp(lse_HT, part_HT)
            out_THD = sum_THD.to(q.dtype)
        ctx.save_for_backward(q, k, v, out_THD, lse_HT)
        ctx.calls, ctx.look = (own, *(level.call for level in levels)), look
        return out_THD[None]

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, out_THD, lse_HT = ctx.saved_tensors
        rows, grad_THD = _rows(q, k, v), grad.squeeze(0)
        first, *others = ctx.calls
        sums: tuple[Tensor, ...] = flash.gradients(
            grad_THD, *rows, out_THD, lse_HT, first, ctx.look
        )
        if others:
            sums = tuple(part.to(_wide(part.dtype)) for part in sums)
        for call in others:
            parts = flash.gradients(grad_THD, *rows, out_THD, lse_HT, call, ctx.look)
            for total, part in zip(sums, parts, strict=True):
                total += part
        return (*(_heads(total, q.dtype) for total in sums), None, None)


class _Windows(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, layout: TreeLayout, look: Look
    ) -> Tensor:
        assert look.window is not None, "only a window needs copies"
        seen = layout.within(look.window)
        q_THD, k_TKD, v_TKD = _rows(q, k, v)
        copy_k, copy_v = (x.index_select(0, seen.keys) for x in (k_TKD, v_TKD))
        out_THD, lse_HT = flash.outputs(q_THD, copy_k, copy_v, seen.call, look)
        ctx.save_for_backward(q, k, v, out_THD, lse_HT)
        ctx.seen, ctx.look = seen, look
        return out_THD[None]

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, out_THD, lse_HT = ctx.saved_tensors
        keys = ctx.seen.keys
        q_THD, k_TKD, v_TKD = _rows(q, k, v)
        copy_k, copy_v = (x.index_select(0, keys) for x in (k_TKD, v_TKD))
        grad_q, *parts = flash.gradients(
            grad.squeeze(0), q_THD, copy_k, copy_v, out_THD, lse_HT, ctx.seen.call, ctx.look
        )
        sums = []
        for part in parts:
            total = part.new_zeros(k_TKD.shape, dtype=_wide(part.dtype))
            # Sorted by row on CUDA, unlike index_add: repeatable.
            sums.append(total.index_put_((keys,), part.to(total.dtype), accumulate=True))
        return (*(_heads(total, q.dtype) for total in (grad_q, *sums)), None, None)


def _heads(rows: Tensor, dtype: torch.dtype) -> Tensor:
    """(T, H, D) as (1, H, T, D) of a dtype."""
    return rows.to(dtype).transpose(0, 1)[None]
