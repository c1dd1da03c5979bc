"""What an objective hands back."""

from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor


class Terms(NamedTuple):
    """The contribution of one micro-batch.  Sums, never means: the loop divides, once."""

    loss_sum: Tensor  # scalar, nats
    units: Tensor | float  # what the sum is over: weight of learned tokens (SFT), pairs (DPO)
    metrics: Mapping[str, Tensor | float]  # sums over the same units, detached
