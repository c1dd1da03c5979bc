"""Whether a tensor holds a value that is not a number, without a mask of its size."""

import torch
from torch import Tensor


def is_finite(tensor: Tensor) -> bool:
    """Whether no value is NaN or infinite; true of integers and of nothing at all."""
    if not tensor.numel() or not tensor.is_floating_point():
        return True
    # Smallest and largest carry any NaN or infinity; isfinite would make masks of twice the bytes.
    low, high = torch.aminmax(tensor.detach())
    return bool(torch.isfinite(low) & torch.isfinite(high))
