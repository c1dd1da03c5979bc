"""Recomputation and tokens at once: the largest that fits a device, with the reason.

Memory is taken from the device's *total*, so that a number chosen once does not depend on what
else happens to run.
"""

from dataclasses import dataclass
from typing import NamedTuple

from luthier.config import defaults
from luthier.config.settings import Settings
from luthier.errors import DeviceError
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

Choice = tuple[object, str]
"""A value that was left open, as it was decided, and why."""


def choose_dtype(wanted: str, device: Device) -> tuple[str, str]:
    """`torch_dtype` as a name, and why.

    Raises:
        DeviceError: bfloat16 on a GPU that has none.
    """
    if device.cuda and wanted == "bfloat16" and not device.bf16:
        raise DeviceError(
            f"torch_dtype: bfloat16 on {device.name}",
            why="bfloat16 needs compute capability 8.0 or newer",
            fix="--torch_dtype float16",
        )
    if wanted != "auto":
        return wanted, "given"
    whose = device.name if device.cuda else "this processor"
    what = "bfloat16" if device.cuda else "bfloat16 instructions"
    return device.dtype, f"{whose} has {what if device.bf16 else f'no {what}'}"


class DataChoice(NamedTuple):
    """What the data and the size of the base decide; memory has no say in it.

    Args:
        learning_rate: At its peak.
        epochs: Passes over the data, where `max_steps` does not end them.
        batch: Samples per device and accumulation round.
        chosen: What of it, and of the adapter's alpha, was left open, by setting.
    """

    learning_rate: float
    epochs: float
    batch: int
    chosen: dict[str, Choice]


def choose_for_data(settings: Settings, *, num_samples: int, num_params: int) -> DataChoice:
    """Learning rate, epochs, batch and alpha.

    Args:
        num_samples: That are learned from.
        num_params: Of the base.
    """
    chosen: dict[str, Choice] = {}
    rate, epochs = settings.learning_rate, settings.num_train_epochs
    batch = settings.per_device_train_batch_size
    if rate is None:
        rate, why = defaults.learning_rate_default(
            settings.method,
            settings.objective,
            from_scratch=settings.from_scratch,
            num_params=num_params,
        )
        chosen["learning_rate"] = (rate, why)
    if epochs is None:
        epochs, why = defaults.num_train_epochs_default(settings.objective)
        chosen["num_train_epochs"] = (epochs, why)
    if settings.lora_alpha is None and settings.method != "full":
        chosen["lora_alpha"] = defaults.lora_alpha_default(settings.lora_dim)
    if batch == "auto":
        batch, why = defaults.per_device_batch_default(
            settings.objective,
            num_samples=num_samples,
            accumulation=settings.gradient_accumulation_steps,
            devices=settings.devices,
        )
        chosen["per_device_train_batch_size"] = (batch, why)
    return DataChoice(rate, epochs, batch, chosen)


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


class MemoryChoice(NamedTuple):
    """How much is computed at once, and how.

    Args:
        recompute: Whether activations are computed twice.
        tokens: Most tokens at once.
        share: Whether what several sequences begin with is computed once.
        chosen: Those of the three that were left open, by setting.
    """

    recompute: bool
    tokens: int
    share: bool
    chosen: dict[str, Choice]


def choose_for_memory(
    settings: Settings, chooser: Chooser, *, longest: int, packable: bool
) -> MemoryChoice:
    """Recomputation, tokens at once and shared beginnings.

    Args:
        chooser: Memory of this model and method on this device.
        longest: Tokens of the largest sample that has to be computed at once.
        packable: Whether several sequences may share a row.
    """
    chosen: dict[str, Choice] = {}
    recompute = settings.gradient_checkpointing == "full"
    if settings.gradient_checkpointing == "auto":
        recompute, why = chooser.recompute(longest)
        chosen["gradient_checkpointing"] = ("full" if recompute else "none", why)
    tokens = settings.micro_batch_tokens
    if tokens == "auto":
        tokens, why = chooser.tokens(longest, recompute=recompute)
        chosen["micro_batch_tokens"] = (tokens, why)
    share = settings.share_prefixes
    if share == "auto":
        share, why = _share(settings, packable)
        chosen["share_prefixes"] = (share, why)
    return MemoryChoice(recompute, tokens, share, chosen)


def _share(settings: Settings, packable: bool) -> tuple[bool, str]:
    if not packable:
        return False, "this architecture runs one sequence at a time"
    if settings.lora_dropout > 0:
        return False, "shared tokens would share a dropout mask"
    if settings.neftune_noise_alpha > 0:
        return False, "shared tokens would share their noise"
    return True, "what several sequences begin with is computed once"
