"""Fits, tight or does not fit: a mark for each method, at once, for lists."""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from luthier.planner.activations import Work, moments
from luthier.planner.device import Device
from luthier.planner.memory import How
from luthier.planner.runtime import runtime_bytes
from luthier.planner.shape import Shape

Verdict = Literal["fits", "tight", "no"]

TIGHT = 0.9
"""A plan that uses more than this share of a device is called tight."""

METHODS = {
    "full": How(full=True),
    "lora": How(targets=("q_proj", "k_proj", "v_proj", "o_proj", "qkv_proj", "c_attn")),
    "qlora": How(targets=("q_proj", "k_proj", "v_proj", "o_proj", "qkv_proj", "c_attn"), bits=4),
}


class Mark(NamedTuple):
    """Whether a method fits a device, and its peak there."""

    mark: Verdict
    peak_bytes: int


def verdict(peak_bytes: int, device: Device) -> Verdict:
    """Fits, tight (above 90 % of the device) or no."""
    if peak_bytes > device.memory_bytes:
        return "no"
    return "tight" if peak_bytes > TIGHT * device.memory_bytes else "fits"


def fit_marks(
    config: Mapping[str, Any] | Shape, device: Device, *, seq_length: int = 1024
) -> dict[str, Mark]:
    """The mark of each method with its usual settings, at the least memory it can do with.

    One sequence of `seq_length` tokens at once, every token of it supervised, activations computed
    again where that is what makes it fit, float32 AdamW.

    Args:
        config: A `config.json`, the gallery's excerpt of one, or the shape itself.
        device: From `Device.parse` or `this_machine`.
        seq_length: Tokens of the sequence.
    """
    shape = config if isinstance(config, Shape) else Shape.from_config(config)
    work = Work(seq_length, seq_length, seq_length, seq_length)
    marks = {}
    for name, how in METHODS.items():
        own = _with_dtype(how, device)
        peaks = [_peak(shape, own, device, work, recompute) for recompute in (False, True)]
        best = next((p for p in peaks if verdict(p, device) == "fits"), min(peaks))
        marks[name] = Mark(verdict(best, device), best)
    return marks


def _with_dtype(how: How, device: Device) -> How:
    return How(full=how.full, targets=how.targets, bits=how.bits, dtype=device.dtype)


def _peak(shape: Shape, how: How, device: Device, work: Work, recompute: bool) -> int:
    allocated = max(
        moment.total for moment in moments(shape, how, device, work, recompute=recompute)
    )
    return allocated + runtime_bytes(device, allocated)
