"""How long a run takes: its products over a rate, with an honest interval.

Products are counted as 2 operations per multiply-add.  The rate is, best first: that of past runs
here, that of the products this machine was timed at, or a share of the data sheet's peak.
"""

from typing import NamedTuple

from luthier.planner.device import Device
from luthier.planner.memory import How, adapter_params
from luthier.planner.shape import Shape


class Rate(NamedTuple):
    """Useful operations per second, and how far off that may be.

    Args:
        low, high: Factors on the time: 0.8 and 1.3 mean 20 % sooner, 30 % later.
    """

    flops: float
    low: float
    high: float
    source: str


GUESS = 0.35
"""Share of the data sheet's peak that a first guess takes; peers reach 0.2 to 0.6 of it."""


def guessed_rate(device: Device) -> Rate:
    """A rate for a device that nobody has timed."""
    peak = device.peak_flops or 100e12
    name = f"{GUESS:.0%} of the peak of {device.name}, which was not timed"
    return Rate(GUESS * peak, 0.5, 2.5, name)


def step_flops(
    shape: Shape, how: How, *, tokens: float, targets: float, span: float, recompute: bool
) -> float:
    """Operations of forward and backward over some tokens.

    Args:
        tokens: Computed, shared prefixes once.
        targets: Supervised.
        span: Mean tokens that a token attends to.

    Source: reference figures per term: 2 per weight forward, 2 for activations backward, 2 for
    weights where they are trained; attention 2 span q a layer forward, twice that backward.
    """
    blocks, head = shape.active_params, shape.vocabulary * shape.hidden
    attention = 2 * span * shape.q * shape.layers
    adapters = 0 if how.full else adapter_params(shape, how)
    forward = 2 * blocks + attention + 2 * adapters
    backward = (4 if how.full else 2) * blocks + 2 * attention + 4 * adapters
    again = forward if recompute else 0
    return tokens * (forward + backward + again) + targets * head * (8 if how.full else 4)


def forward_flops(shape: Shape, *, tokens: float, targets: float, span: float) -> float:
    """Operations of a forward pass alone: evaluation, or the reference of DPO."""
    per_token = 2 * shape.active_params + 2 * span * shape.q * shape.layers
    return tokens * per_token + 2 * targets * shape.vocabulary * shape.hidden
