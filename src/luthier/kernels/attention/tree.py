"""Attention over a prefix tree as one autograd function: a loop over blocks, written in place.

T: rows; H: query heads; K: key heads; D: width of a head.  The blocks write into buffers of T
rows, so that a tree of many short nodes costs no chain of slices and concatenations in autograd.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from luthier.kernels.attention import blocks
from luthier.kernels.attention.blocks import Block
from luthier.kernels.attention.layout import ChunkCall, Span, TreeLayout
from luthier.kernels.cpu import matmul_dtype


class Ask(NamedTuple):
    """What attention is asked for, the same in forward and backward."""

    layout: TreeLayout
    scale: float
    window: int | None  # tokens seen, the query's own included; None where it hides nothing
    softcap: float | None
    plain: bool  # use the written-out block instead of torch's fused one


class _TreeAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, ask: Ask) -> Tensor:
        fill = _fill_chunks if _chunked(ask) else _fill_tree
        work = matmul_dtype(q.dtype, q.device)
        out, lse = fill(q.to(work), k.to(work), v.to(work), ask)
        out = out.to(q.dtype)
        # As they came: wide copies of four tensors a layer would live until backward.
        ctx.save_for_backward(q, k, v, out, lse)
        ctx.ask = ask
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        q, k, v, out, lse = ctx.saved_tensors
        ask: Ask = ctx.ask
        fill = _fill_chunk_gradients if _chunked(ask) else _fill_tree_gradients
        dtype, work = q.dtype, matmul_dtype(q.dtype, q.device)
        q, k, v, out, grad = (x.to(work) for x in (q, k, v, out, grad))
        parts = fill(grad.transpose(1, 2), q, k, v, out.transpose(1, 2), lse, ask)
        grad_q, grad_k, grad_v = (part.transpose(1, 2).to(dtype) for part in parts)
        return grad_q, grad_k, grad_v, None


def tree_attention(q: Tensor, k: Tensor, v: Tensor, ask: Ask) -> Tensor:
    """Attention of every row to its path.

    Args:
        q: (1, H, T, D).
        k: (1, K, T, D); query head h belongs to key head h // (H / K).
        v: (1, K, T, D); another width than D is for the plain block only.
        ask: The tree, and what to do with it.

    Returns:
        (1, T, H, D), contiguous, in q's dtype.
    """
    out: Tensor = _TreeAttention.apply(q, k, v, ask)  # type: ignore[no-untyped-call]
    return out


def _chunked(ask: Ask) -> bool:
    """Windows need masks, and the plain block needs bounded scores."""
    return ask.plain or ask.window is not None


def _row_buffer(like: Tensor, width: int, *, make: Callable[..., Tensor] = torch.empty) -> Tensor:
    """(1, T, heads, width) for (1, heads, T, ...)."""
    _, heads, tokens, _ = like.shape
    return make((1, tokens, heads, width), dtype=like.dtype, device=like.device)


def _fill_tree(q: Tensor, k: Tensor, v: Tensor, ask: Ask) -> tuple[Tensor, Tensor]:
    """Every row is written once by its own node, then joined with each ancestor's block."""
    tokens, heads = q.shape[2], q.shape[1]
    wide = torch.promote_types(q.dtype, torch.float32)
    shares = not ask.layout.is_forest_of_leaves
    out = torch.empty(
        (1, tokens, heads, v.shape[-1]), dtype=wide if shares else q.dtype, device=q.device
    )
    lse = torch.empty((1, tokens, heads), dtype=wide, device=q.device)
    for start, stop, k_start, k_stop, causal in ask.layout.tree_calls:
        part, part_lse = blocks.flash_forward(
            q[:, :, start:stop],
            k[:, :, k_start:k_stop],
            v[:, :, k_start:k_stop],
            Block(ask.scale, causal),
        )
        rows, rows_lse = out[:, start:stop], lse[:, start:stop]
        part, part_lse = part.transpose(1, 2), part_lse.transpose(1, 2)
        if causal:
            rows.copy_(part)
            rows_lse.copy_(part_lse)
        else:
            rows.lerp_(part.to(wide), torch.sigmoid(part_lse - rows_lse)[..., None])
            rows_lse.copy_(torch.logaddexp(rows_lse, part_lse))
    return out.to(q.dtype), lse.transpose(1, 2)


def _fill_tree_gradients(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, ask: Ask
) -> tuple[Tensor, Tensor, Tensor]:
    grad_q, grad_k, grad_v = (_row_buffer(x, x.shape[-1]) for x in (q, k, v))
    for start, stop, k_start, k_stop, causal in ask.layout.tree_calls:
        parts = blocks.flash_backward(
            grad[:, :, start:stop],
            q[:, :, start:stop],
            k[:, :, k_start:k_stop],
            v[:, :, k_start:k_stop],
            out[:, :, start:stop],
            lse[:, :, start:stop],
            Block(ask.scale, causal),
        )
        targets = (grad_q[:, start:stop], grad_k[:, k_start:k_stop], grad_v[:, k_start:k_stop])
        for target, part in zip(targets, parts, strict=True):
            if causal:
                target.copy_(part.transpose(1, 2))
            else:
                target.add_(part.transpose(1, 2))
    return grad_q, grad_k, grad_v


def _gather(x: Tensor, spans: tuple[Span, ...]) -> Tensor:
    """The rows of some spans of (1, K, T, D), one after the other; no copy where there is one."""
    parts = [x[:, :, start:stop] for start, stop in spans]
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=2)


def _chunk_block(call: ChunkCall, ask: Ask) -> Block:
    """Which keys a chunk's queries may see: not behind them, and within the window."""
    device = ask.layout.device
    num_keys = sum(stop - start for start, stop in call.spans)
    q_depth = torch.arange(call.depth, call.depth + call.stop - call.start, device=device)
    k_depth = torch.arange(call.k_depth, call.k_depth + num_keys, device=device)
    distance = q_depth[:, None] - k_depth
    allowed = distance >= 0
    if ask.window is not None:
        allowed &= distance < ask.window
    return Block(ask.scale, False, allowed, ask.softcap)


def _chunks(ask: Ask) -> Iterator[tuple[ChunkCall, Block]]:
    for call in ask.layout.chunk_calls(ask.window):
        yield call, _chunk_block(call, ask)


def _fill_chunks(q: Tensor, k: Tensor, v: Tensor, ask: Ask) -> tuple[Tensor, Tensor]:
    forward = blocks.plain_forward if ask.plain else blocks.flash_forward
    wide = torch.promote_types(q.dtype, torch.float32)
    out = _row_buffer(q, v.shape[-1])
    lse = torch.empty(q.shape[:-1], dtype=wide, device=q.device)
    for call, block in _chunks(ask):
        rows = slice(call.start, call.stop)
        part, part_lse = forward(
            q[:, :, rows], _gather(k, call.spans), _gather(v, call.spans), block
        )
        out[:, rows] = part.transpose(1, 2)
        lse[:, :, rows] = part_lse
    return out, lse


def _fill_chunk_gradients(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, ask: Ask
) -> tuple[Tensor, Tensor, Tensor]:
    backward = blocks.plain_backward if ask.plain else blocks.flash_backward
    grad_q = _row_buffer(q, q.shape[-1])
    wide = torch.promote_types(q.dtype, torch.float32)
    grad_k, grad_v = (
        torch.zeros((1, x.shape[2], x.shape[1], x.shape[3]), dtype=wide, device=x.device)
        for x in (k, v)
    )
    for call, block in _chunks(ask):
        rows = slice(call.start, call.stop)
        part_q, part_k, part_v = backward(
            grad[:, :, rows],
            q[:, :, rows],
            _gather(k, call.spans),
            _gather(v, call.spans),
            out[:, :, rows],
            lse[:, :, rows],
            block,
        )
        grad_q[:, rows] = part_q.transpose(1, 2)
        begin = 0
        for start, stop in call.spans:
            end = begin + stop - start
            grad_k[:, start:stop] += part_k[:, :, begin:end].transpose(1, 2)
            grad_v[:, start:stop] += part_v[:, :, begin:end].transpose(1, 2)
            begin = end
    return grad_q, grad_k.to(k.dtype), grad_v.to(v.dtype)
