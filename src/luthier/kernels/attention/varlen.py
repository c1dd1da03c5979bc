"""Attention over a prefix tree on CUDA: one variable-length call for all nodes.

Each node is a "sequence" whose keys are the rows of its path and its own, causal from the lower
right; keys are gathered by index, and the backward of the gather adds up what nodes share.
"""

import torch
from torch import Tensor

from luthier.kernels.attention.layout import TreeLayout


def varlen_attention(
    q: Tensor, k: Tensor, v: Tensor, layout: TreeLayout, *, scale: float, window: int | None
) -> Tensor:
    """Attention of every row to its path: (1, H, T, D) to (1, T, H, D).

    Args:
        q: Float16 or bfloat16 on a CUDA device of compute capability 8.0 or more.
        k: (1, K, T, D).
        v: (1, K, T, D).
        layout: The tree; its index tensors on the same device.
        scale: Of the scores.
        window: Tokens seen, the query's own included; None for all.
    """
    from torch.nn.attention.varlen import varlen_attn  # not in CPU-only builds of every version

    rows_q, rows_k, rows_v = (x[0].transpose(0, 1) for x in (q, k, v))
    if not layout.is_forest_of_leaves:
        rows_k = rows_k.index_select(0, layout.kv_index)
        rows_v = rows_v.index_select(0, layout.kv_index)
    out = varlen_attn(
        rows_q,
        rows_k,
        rows_v,
        layout.cu_q,
        layout.cu_k,
        layout.max_q,
        layout.max_depth,
        scale=scale,
        # Flash attention counts the tokens to the left of the query; causal is a right side of 0.
        window_size=(-1 if window is None else window - 1, 0),
        enable_gqa=q.shape[1] != k.shape[1],
    )
    assert isinstance(out, torch.Tensor)  # a tuple only where log-sum-exp is asked for
    return out[None]
