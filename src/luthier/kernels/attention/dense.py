"""The plain twin: one dense T x T mask, softmax in float32 at least.

Slow and obvious, for tests and for nothing else.  T: rows; H: query heads; K: key heads.
"""

import torch
from torch import Tensor

from luthier.kernels.attention.layout import TreeLayout


def dense_mask(layout: TreeLayout, window: int | None = None) -> Tensor:
    """(T, T) bool: whether the row (first axis) attends to the row of the second."""
    allowed = torch.zeros(layout.num_tokens, layout.num_tokens, dtype=torch.bool)
    for start, stop, path in layout.nodes:
        seen = [row for span in path for row in range(*span)]
        for row in range(start, stop):
            seen.append(row)
            allowed[row, seen if window is None else seen[-window:]] = True
    return allowed


def dense_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    layout: TreeLayout,
    *,
    scale: float,
    window: int | None = None,
    softcap: float | None = None,
) -> Tensor:
    """(1, H, T, D) to (1, T, H, D), differentiable by autograd."""
    groups = q.shape[1] // k.shape[1]
    wide = torch.promote_types(q.dtype, torch.float32)
    keys, values = (x.repeat_interleave(groups, dim=1).to(wide) for x in (k, v))
    scores = q.to(wide) @ keys.transpose(-1, -2) * scale
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    hidden = ~dense_mask(layout, window).to(q.device)
    weights = scores.masked_fill(hidden, float("-inf")).softmax(-1)
    return (weights @ values).transpose(1, 2).to(q.dtype)
