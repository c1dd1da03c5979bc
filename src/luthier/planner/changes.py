"""The smallest changes that make a run fit, each planned again, with what it costs."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from luthier.config.settings import Settings
from luthier.planner.data_shape import DataShape
from luthier.planner.device import CARDS, Device
from luthier.units import MIB


class Change(NamedTuple):
    """A change that makes a run fit.

    Args:
        settings: What to set; `device` is not a setting but another machine.
        saves_bytes: Of the peak.
        costs: In time and quality, in words.
    """

    settings: dict[str, Any]
    saves_bytes: int
    costs: str


class ChangeOutcome(NamedTuple):
    """What planning again said."""

    peak_bytes: int
    fits: bool


Again = Callable[[Settings, DataShape, Device], ChangeOutcome]

SHORTEST = 256
DEFAULT_RANK = 32


def find_changes(
    settings: Settings, data: DataShape, device: Device, peak_bytes: int, again: Again
) -> list[Change]:
    """Single changes that suffice, else the fewest together, and the smallest card that would do.

    Args:
        again: Plans with other settings, lengths or device.
    """
    found: list[Change] = []
    together: dict[str, object] = {}
    costs: list[str] = []
    cut = data
    solved = False
    for step, cost in _steps(settings, data):
        one = again(settings.model_copy(update=step), _shorter(data, step), device)
        if one.fits:
            found.append(Change(step, peak_bytes - one.peak_bytes, cost))
        if solved or found:
            continue
        together |= step
        cut = _shorter(cut, step)
        costs.append(cost)
        both = again(settings.model_copy(update=together), cut, device)
        if both.fits and len(costs) > 1:
            saved = peak_bytes - both.peak_bytes
            found.append(Change(dict(together), saved, "; ".join(costs)))
            solved = True
    card = _smallest_card(settings, data, device, again)
    return [*found[:4], *([card] if card else [])]


def _steps(settings: Settings, data: DataShape) -> Iterator[tuple[dict[str, object], str]]:
    """Changes, the cheapest first."""
    if settings.gradient_checkpointing == "none":
        yield (
            {"gradient_checkpointing": "full"},
            "about 1.4 times the time: every layer is computed twice; the result is the same",
        )
    longest = max(8, data.longest_sample)
    if isinstance(settings.micro_batch_tokens, int) and settings.micro_batch_tokens > longest:
        yield (
            {"micro_batch_tokens": longest},
            "somewhat slower: smaller products; the update is the same",
        )
    if settings.optim == "adamw_torch":
        yield (
            {"optim": "adamw_8bit"},
            "moments in 8 bits: quality as good in the paper's tests (arxiv.org/abs/2110.02861)",
        )
    if settings.load_in_4bit and not settings.bnb_4bit_use_double_quant:
        yield (
            {"bnb_4bit_use_double_quant": True},
            "scales quantised too: a little slower to dequantise, no loss found in the QLoRA paper",
        )
    length = settings.seq_length
    while length // 2 >= SHORTEST:
        length //= 2
        if length < data.longest:
            share = float((data.lengths > length).mean())
            yield {"seq_length": length}, f"{share:.0%} of the rows are longer and get cut"
            break
    yield from _cheaper_methods(settings)


def _cheaper_methods(settings: Settings) -> Iterator[tuple[dict[str, object], str]]:
    rank = {"lora_dim": DEFAULT_RANK} if settings.method == "full" else {}
    if settings.method == "full":
        yield (
            {"method": "lora", **rank},
            "an adapter in place of every weight: faster, and learns less where a task is far "
            "from what the model can do; it wants a higher learning rate",
        )
    if not (settings.load_in_4bit or settings.load_in_8bit):
        yield (
            {"method": "qlora", "load_in_4bit": True, **rank},
            "the base in 4 bits: 10 to 30 % slower, quality near that of lora (QLoRA paper)",
        )
    elif settings.load_in_8bit:
        yield (
            {"load_in_8bit": False, "load_in_4bit": True},
            "4 bits in place of 8: a coarser base, which the adapter learns around",
        )


def _shorter(data: DataShape, step: dict[str, Any]) -> DataShape:
    return data.cut_to(step["seq_length"]) if "seq_length" in step else data


def _smallest_card(
    settings: Settings, data: DataShape, device: Device, again: Again
) -> Change | None:
    """The card with least memory on which the run fits as it is."""
    sizes = {(mib, name) for name, card in CARDS.items() for mib in card.sizes_mib}
    for mib, name in sorted(sizes):
        if mib * MIB <= device.memory_bytes and device.cuda:
            continue
        other = Device.parse(f"{name} {mib} MiB")
        if again(settings, data, other).fits:
            return Change({"device": other.name}, 0, "another machine; nothing else changes")
    return None
