"""FlashAttention over many sequences in one call, with its log-sum-exp so that calls can be joined.

T: rows; H: query heads; K: key heads; D: width of a head.

On CUDA this is torch's own kernel, by the operators that every supported version has in one form
(the Python function above them has changed its arguments).  Elsewhere it is the plain twin: the
same meaning, one sequence after the other.  A newcomer would get wrong what a sequence without
keys is: its output is 0 and its log-sum-exp plus infinity, so that its gradient is 0; who joins
has to know such rows.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from luthier.kernels.attention import blocks
from luthier.kernels.attention.blocks import Block
from luthier.kernels.planned import device_kind


class Call(NamedTuple):
    """Sequences of queries and of keys, row by row one after the other.

    Args:
        cu_q: First row of queries of each sequence, and the number of all, int32.
        cu_k: Likewise of keys.
        max_q: Rows of the longest.
        max_k: Likewise.
        causal: The last query of a sequence sees its last key, those before it one less each.
    """

    cu_q: Tensor
    cu_k: Tensor
    max_q: int
    max_k: int
    causal: bool


class Look(NamedTuple):
    """What all calls of a layer have in common; `window` is the tokens seen, None for all."""

    scale: float
    window: int | None = None

    @property
    def left(self) -> int | None:
        """Tokens before the query's own that are seen."""
        return None if self.window is None else self.window - 1


def outputs(
    q_THD: Tensor, k_TKD: Tensor, v_TKD: Tensor, call: Call, look: Look
) -> tuple[Tensor, Tensor]:
    """Output (T, H, D) in the queries' dtype, and log-sum-exp (H, T) in float32 at least."""
    if device_kind(q_THD.device) != "cuda":
        return _forward_plain(q_THD, k_TKD, v_TKD, call, look)
    out_THD, lse_HT, _, _, _ = torch.ops.aten._flash_attention_forward(
        q_THD,
        k_TKD,
        v_TKD,
        call.cu_q,
        call.cu_k,
        call.max_q,
        call.max_k,
        0.0,
        call.causal,
        False,
        scale=look.scale,
        window_size_left=look.left,
        window_size_right=0 if call.causal else None,
    )
    return out_THD, lse_HT


def gradients(
    grad_THD: Tensor,
    q_THD: Tensor,
    k_TKD: Tensor,
    v_TKD: Tensor,
    out_THD: Tensor,
    lse_HT: Tensor,
    call: Call,
    look: Look,
) -> tuple[Tensor, Tensor, Tensor]:
    """The call's part of the gradients; `out` and `lse` are those of the whole attention."""
    if device_kind(q_THD.device) != "cuda":
        return _backward_plain(grad_THD, q_THD, k_TKD, v_TKD, out_THD, lse_HT, call, look)
    nothing = torch.empty(2, dtype=torch.uint64, device=q_THD.device)  # dropout's, which is off
    found: tuple[Tensor, Tensor, Tensor] = torch.ops.aten._flash_attention_backward(
        grad_THD,
        q_THD,
        k_TKD,
        v_TKD,
        out_THD,
        lse_HT,
        call.cu_q,
        call.cu_k,
        call.max_q,
        call.max_k,
        0.0,
        call.causal,
        nothing,
        nothing,
        scale=look.scale,
        window_size_left=look.left,
        window_size_right=0 if call.causal else None,
    )
    return found


def _pairs(call: Call) -> list[tuple[slice, slice]]:
    q, k = call.cu_q.tolist(), call.cu_k.tolist()
    return [
        (slice(q[at], q[at + 1]), slice(k[at], k[at + 1]))
        for at in range(len(q) - 1)
        if q[at] < q[at + 1] and k[at] < k[at + 1]
    ]


def _block(queries: slice, keys: slice, call: Call, look: Look, device: torch.device) -> Block:
    if not call.causal:
        return Block(look.scale)
    num_q, num_k = queries.stop - queries.start, keys.stop - keys.start
    allowed = torch.ones(num_q, num_k, dtype=torch.bool, device=device).tril_(num_k - num_q)
    if look.left is not None:
        allowed = allowed.triu_(num_k - num_q - look.left)
    return Block(look.scale, False, allowed)


def _heads_first(*rows: Tensor) -> tuple[Tensor, ...]:
    return tuple(x.transpose(0, 1)[None] for x in rows)


def _forward_plain(
    q_THD: Tensor, k_TKD: Tensor, v_TKD: Tensor, call: Call, look: Look
) -> tuple[Tensor, Tensor]:
    out_THD = torch.zeros_like(q_THD)
    wide = torch.promote_types(q_THD.dtype, torch.float32)
    lse_HT = q_THD.new_full(q_THD.shape[1::-1], float("inf"), dtype=wide)
    for queries, keys in _pairs(call):
        q, k, v = _heads_first(q_THD[queries], k_TKD[keys], v_TKD[keys])
        out, lse = blocks.plain_forward(q, k, v, _block(queries, keys, call, look, q.device))
        out_THD[queries] = out[0].transpose(0, 1)
        lse_HT[:, queries] = lse[0]
    return out_THD, lse_HT


def _backward_plain(
    grad_THD: Tensor,
    q_THD: Tensor,
    k_TKD: Tensor,
    v_TKD: Tensor,
    out_THD: Tensor,
    lse_HT: Tensor,
    call: Call,
    look: Look,
) -> tuple[Tensor, Tensor, Tensor]:
    grads = tuple(torch.zeros_like(x) for x in (q_THD, k_TKD, v_TKD))
    for queries, keys in _pairs(call):
        grad, q, out = _heads_first(grad_THD[queries], q_THD[queries], out_THD[queries])
        k, v = _heads_first(k_TKD[keys], v_TKD[keys])
        block = _block(queries, keys, call, look, q.device)
        parts = blocks.plain_backward(grad, q, k, v, out, lse_HT[None, :, queries], block)
        for whole, part, rows in zip(grads, parts, (queries, keys, keys), strict=True):
            whole[rows] = part[0].transpose(0, 1)
    return grads[0], grads[1], grads[2]
