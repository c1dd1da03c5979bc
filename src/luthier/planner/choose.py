"""Recomputation and tokens at once: the largest that fits a device, with the reason.

Memory is taken from the device's *total*, so that a number chosen once does not depend on what
else happens to run.
"""

from dataclasses import dataclass
from typing import Any

from luthier.config import defaults
from luthier.config.settings import Settings
from luthier.planner.activations import Moment, Work, moments
from luthier.planner.device import Device
from luthier.planner.memory import How
from luthier.planner.runtime import runtime_bytes
from luthier.planner.shape import Shape
from luthier.units import format_bytes

USABLE = 0.85
"""Share of a device's memory that is planned with where the plan may choose."""

BEST_TOKENS = {"cpu": 2048, "cuda": 16384}
"""Beyond this more tokens at once are no faster: the products are already large."""

STEP = 256


def open_values(
    settings: Settings, num_samples: int, num_params: int
) -> dict[str, tuple[Any, str]]:
    """What was left open and memory has no say in, decided: values with their reasons, by setting."""
    chosen: dict[str, tuple[Any, str]] = {}
    if settings.learning_rate is None:
        chosen["learning_rate"] = defaults.learning_rate_default(
            settings.method,
            settings.objective,
            from_scratch=settings.from_scratch,
            num_params=num_params,
        )
    if settings.num_train_epochs is None:
        chosen["num_train_epochs"] = defaults.num_train_epochs_default(settings.objective)
    if settings.lora_alpha is None and settings.method != "full":
        chosen["lora_alpha"] = defaults.lora_alpha_default(settings.lora_dim)
    if settings.per_device_train_batch_size == "auto":
        chosen["per_device_train_batch_size"] = defaults.per_device_batch_default(
            settings.objective,
            num_samples=num_samples,
            accumulation=settings.gradient_accumulation_steps,
            devices=settings.devices,
        )
    return chosen


@dataclass(frozen=True, slots=True)
class Peak:
    """The moment that needs most memory, with what the process takes besides."""

    where: str
    parts: dict[str, int]

    @property
    def total(self) -> int:
        """Bytes in all."""
        return sum(self.parts.values())

    @property
    def allocated(self) -> int:
        """Bytes of tensors: what the allocator itself reports."""
        return self.total - self.parts["runtime"]


@dataclass(frozen=True, slots=True)
class Chooser:
    """Memory of one model, method and device for any batch.

    Args:
        targets_share: Supervised tokens per token.
        learned: Bytes that past runs here took besides their tensors.
    """

    shape: Shape
    how: How
    device: Device
    targets_share: float = 1.0
    learned: int | None = None

    def peak(self, work: Work, *, recompute: bool) -> Peak:
        """The largest moment of a run whose largest micro-batch is `work`."""
        found = moments(self.shape, self.how, self.device, work, recompute=recompute)
        most: Moment = max(found, key=lambda moment: moment.total)
        runtime = runtime_bytes(self.device, most.total, learned=self.learned)
        return Peak(most.where, {**most.parts, "runtime": runtime})

    def of_tokens(self, tokens: int, *, recompute: bool) -> Peak:
        """The same for so many tokens at once, in steps of several micro-batches."""
        targets = max(1, round(tokens * self.targets_share))
        return self.peak(Work(tokens, targets, tokens, tokens, 2), recompute=recompute)

    @property
    def usable(self) -> int:
        """Bytes that may be planned with."""
        return int(self.device.memory_bytes * USABLE)

    def recompute(self, longest_sample: int) -> tuple[bool, str]:
        """Whether activations have to be computed twice for the longest sample to fit."""
        needed = self.of_tokens(longest_sample, recompute=False).total
        sample = f"the longest sample ({longest_sample} tokens)"
        room = (
            f"{format_bytes(self.usable)} of {format_bytes(self.device.memory_bytes)} may be used"
        )
        if needed <= self.usable:
            return False, f"{sample} needs {format_bytes(needed)} without it; {room}"
        return True, f"{sample} would need {format_bytes(needed)} without it; {room}"

    def tokens(self, longest_sample: int, *, recompute: bool) -> tuple[int, str]:
        """Most tokens computed at once, in steps of 256; never less than the longest sample."""
        best = BEST_TOKENS[self.device.kind]
        low, high = 0, best // STEP
        while low < high:
            middle = (low + high + 1) // 2
            if self.of_tokens(middle * STEP, recompute=recompute).total <= self.usable:
                low = middle
            else:
                high = middle - 1
        chosen = max(low * STEP, longest_sample, 8)
        needs = format_bytes(self.of_tokens(chosen, recompute=recompute).total)
        room = f"{format_bytes(self.usable)} may be used"
        if low * STEP >= best:
            return chosen, f"they need {needs}, {room}; more at once are not faster"
        if low * STEP < longest_sample:
            return chosen, f"the longest sample has to be computed at once: {needs}, {room}"
        return chosen, f"they need {needs}, {room}"
