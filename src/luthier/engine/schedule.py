"""Learning rate of every optimiser step, in closed form.

Steps are counted from 1.  Warm-up rises linearly and reaches the peak *at* its last step, so the
first step already learns (the Hugging Face schedules give it a rate of 0); the decay falls from the
peak at the step behind the warm-up towards 0 behind the last step.
"""

import math
from typing import Literal

Schedule = Literal["constant", "constant_with_warmup", "linear", "cosine"]


def warmup_steps(warmup_ratio: float, num_steps: int) -> int:
    """Steps of warm-up: the ratio of all steps, rounded up."""
    return math.ceil(round(warmup_ratio * num_steps, 9))


def learning_rate_at(
    step: int, *, peak: float, schedule: Schedule, num_steps: int, num_warmup: int
) -> float:
    """Learning rate of optimiser step `step`, 1 <= step <= num_steps.

    Args:
        peak: The highest rate, > 0.
        schedule: `constant` ignores the warm-up; the others rise to the peak first.
        num_steps: Optimiser steps of the whole run.
        num_warmup: Steps of warm-up, 0 <= num_warmup < num_steps.
    """
    if schedule == "constant":
        return peak
    if step <= num_warmup:
        return peak * step / num_warmup
    if schedule == "constant_with_warmup":
        return peak
    progress = (step - 1 - num_warmup) / max(1, num_steps - num_warmup)
    if schedule == "linear":
        return peak * (1 - progress)
    return peak * 0.5 * (1 + math.cos(math.pi * progress))
