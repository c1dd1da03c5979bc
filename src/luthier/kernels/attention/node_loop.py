"""Attention over a prefix tree by `scaled_dot_product_attention`, one call a node, on any device.

For CUDA where variable-length attention is not to be had: a T4, float32.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from luthier.kernels.attention.layout import TreeLayout


def node_loop_attention(
    q: Tensor, k: Tensor, v: Tensor, layout: TreeLayout, *, scale: float, window: int | None
) -> Tensor:
    """Attention of every row to its path: (1, H, T, D) to (1, T, H, D); arguments as in `levels`."""
    k, v = (_per_query_head(x, q.shape[1]) for x in (k, v))
    if not layout.is_forest_of_leaves:  # what nodes share adds up its gradients in float32
        k, v = (x.to(torch.promote_types(x.dtype, torch.float32)) for x in (k, v))
    parts = []
    for call in layout.chunk_calls(window) if layout.cuts(window) else layout.node_calls():
        keys, values = (
            torch.cat([x[:, :, start:stop] for start, stop in call.spans], dim=2).to(q.dtype)
            for x in (k, v)
        )
        num_q, num_k = call.stop - call.start, keys.shape[2]
        allowed = None
        if num_q < num_k or layout.cuts(window):
            last = call.depth - call.k_depth  # the last key that the first query sees
            allowed = torch.ones(num_q, num_k, dtype=torch.bool, device=q.device).tril_(last)
            if window is not None:
                allowed = allowed.triu_(last - window + 1)
        parts.append(
            F.scaled_dot_product_attention(
                q[:, :, call.start : call.stop],
                keys,
                values,
                attn_mask=allowed,
                is_causal=allowed is None,
                scale=scale,
            )
        )
    return torch.cat(parts, dim=2).transpose(1, 2).contiguous()


def _per_query_head(x: Tensor, heads: int) -> Tensor:
    """(1, K, T, D) to (1, H, T, D): the memory-efficient kernel of old devices has no grouped heads.

    Expanded rather than repeated by index, whose backward would not be deterministic on CUDA.
    """
    one, groups, tokens, width = x.shape
    expanded = x[:, :, None].expand(one, groups, heads // groups, tokens, width)
    return expanded.reshape(one, heads, tokens, width)
