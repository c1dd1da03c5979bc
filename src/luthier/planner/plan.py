"""The plan of a run before anything is loaded: memory, time, disk, and whether it fits."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, NamedTuple

from luthier.config.settings import Settings
from luthier.gallery import Family, family_of
from luthier.planner.activations import Work
from luthier.planner.changes import Change, ChangeOutcome, find_changes
from luthier.planner.choose import (
    Choice,
    Chooser,
    choose_dtype,
    choose_for_data,
    choose_for_memory,
)
from luthier.planner.data_shape import DataShape, StepShape
from luthier.planner.device import Device
from luthier.planner.marks import Verdict, verdict
from luthier.planner.memory import How, optimiser_bytes, trained_params
from luthier.planner.shape import Shape
from luthier.planner.times import Rate, forward_flops, guessed_rate, step_flops
from luthier.shown import html_table
from luthier.units import GIB, MIB, format_bytes, format_duration

HOST_PROCESS = 2 * GIB
"""Host memory of a training process on a GPU: libraries with CUDA, tokenizer, buffers."""

BYTES_PER_TOKEN = 24
"""Of the rows held in memory: ids and weights of each token, and its share of the text."""


class Values(NamedTuple):
    """Values of a run that its settings may leave open, besides the cut of its steps.

    Args:
        learning_rate: At its peak.
        epochs: Passes over the data, where `max_steps` does not end them.
        dtype: Of compute, by name.
        recompute: Whether activations are computed twice.
    """

    learning_rate: float
    epochs: float
    dtype: str
    recompute: bool


@dataclass(frozen=True)
class Plan:
    """What a run will take, and every value that was decided for it.

    Args:
        parts: Bytes by part at the peak of one device; they add up to `peak_bytes`.
        peak_where: The moment of the peak.
        allocated_bytes: The peak without `runtime`: what torch's allocator reports.
        host_bytes: Of host memory; on a CPU the same as the peak.
        disk_bytes: Checkpoints, result and run files.
        steps: Optimiser steps.
        tokens: Computed in all of them.
        seconds: Time to finish: the interval and its middle.
        time_source: Where the rate is from.
        margin_bytes: Device memory that is left; below 0 where it does not fit.
        values: Given or decided.
        chosen: Values that were left open, each with its reason.
        changes: What would make it fit, the smallest first; empty where it does.
        work: The micro-batch with the peak.
        cut: How samples become micro-batches.
        flops_per_token: Operations of a training step per token.
        notes: What was assumed, and what is not known well.
    """

    device: Device
    parts: dict[str, int]
    peak_bytes: int
    peak_where: str
    allocated_bytes: int
    host_bytes: int
    disk_bytes: int
    steps: int
    tokens: int
    seconds: tuple[float, float, float]
    time_source: str
    verdict: Verdict
    margin_bytes: int
    values: Values
    chosen: dict[str, Choice]
    work: Work
    cut: StepShape
    flops_per_token: float
    changes: list[Change] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def _repr_html_(self) -> str:
        rows = [{"part": name, "bytes": format_bytes(size)} for name, size in self.parts.items()]
        total = f"{format_bytes(self.peak_bytes)} of {format_bytes(self.device.memory_bytes)}"
        time = f"{self.steps:,} steps, about {format_duration(self.seconds[1])}"
        return html_table(f"{self.verdict}: {total} on {self.device.name}", rows, below=time)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        tuples = {name: getattr(self, name)._asdict() for name in ("work", "cut", "values")}
        changes = [change._asdict() for change in self.changes]
        return {**asdict(self), **tuples, "changes": changes}


def how_of(settings: Settings, family: Family, device: Device) -> How:
    """What of the settings memory asks about.

    Args:
        family: Of the base; it has the default targets of adapters.
    """
    targets = settings.lora_target_modules or family.lora_targets
    bits = 4 if settings.load_in_4bit else 8 if settings.load_in_8bit else 0
    return How(
        full=settings.method == "full",
        rank=settings.lora_dim,
        targets=tuple(targets),
        whole=settings.modules_to_save,
        bits=bits,
        double=settings.bnb_4bit_use_double_quant and bits == 4,
        dtype=choose_dtype(settings.torch_dtype, device)[0],
        optimiser=settings.optim,
        masters=settings.master_weights == "float32",
        dropout=settings.lora_dropout > 0,
        from_scratch=settings.from_scratch,
        magnitudes=settings.use_dora,
        principal=settings.init_lora_weights == "pissa",
    )


def plan(
    settings: Settings,
    config: Mapping[str, Any],
    data: DataShape | None,
    device: Device,
    *,
    parameters: int | None = None,
    rate: Rate | None = None,
    learned: int | None = None,
    with_changes: bool = True,
) -> Plan:
    """Plan a run; nothing is loaded.

    Args:
        settings: Open values are decided as training decides them.
        config: The base's `config.json`, or the gallery's excerpt of it.
        data: Lengths of the rows; None assumes the worst that the settings allow, and says so.
        device: What it is to run on.
        parameters: Exact parameter count of the base, where it is known better than from `config`.
        rate: Operations per second; a guess from the device's data sheet if not given.
        learned: Bytes that runs on this machine take besides their tensors.
        with_changes: Look for what would make it fit where it does not.
    """
    model = Base(Shape.from_config(config), family_of(config), parameters)
    data = data or DataShape.assumed(settings, context=model.shape.context or None)
    found = _plan(settings, model, data, device, rate, learned)
    if found.verdict != "no" or not with_changes:
        return found

    def again(changed: Settings, shorter: DataShape, other: Device) -> ChangeOutcome:
        if changed.torch_dtype == "bfloat16" and other.cuda and not other.bf16:
            return ChangeOutcome(0, False)
        known = learned if other == device else None
        outcome = _plan(changed, model, shorter, other, rate, known)
        return ChangeOutcome(outcome.peak_bytes, outcome.verdict != "no")

    changes = find_changes(_given(settings, found), data, device, found.peak_bytes, again)
    return replace(found, changes=changes)


class Base(NamedTuple):
    """What is known of a base without its weights."""

    shape: Shape
    family: Family
    parameters: int | None = None


def _given(settings: Settings, found: Plan) -> Settings:
    """With the values that memory decided written out, so that changes can name smaller ones.

    What was chosen already stays open: a change of something else chooses it anew.
    """
    values = {"gradient_checkpointing": settings.gradient_checkpointing}
    if settings.gradient_checkpointing == "auto" and "gradient_checkpointing" not in found.chosen:
        values["gradient_checkpointing"] = "full"
    return settings.model_copy(update=values)


def _plan(
    settings: Settings,
    model: Base,
    data: DataShape,
    device: Device,
    rate: Rate | None,
    learned: int | None,
) -> Plan:
    shape, how = model.shape, how_of(settings, model.family, device)
    rate = rate if rate is not None and device.measured else guessed_rate(device)
    packable = model.family.packable
    dtype, why = choose_dtype(settings.torch_dtype, device)
    by_data = choose_for_data(
        settings, num_samples=data.samples, num_params=model.parameters or shape.num_params
    )
    # Values must not depend on what ran here before: they are chosen without what was learned.
    chooser = Chooser(shape, how, device, data.targets_share)
    longest = data.longest_sample if packable else data.longest
    by_memory = choose_for_memory(settings, chooser, longest=longest, packable=packable)
    recompute = by_memory.recompute
    chosen = {**by_data.chosen, **by_memory.chosen}
    if settings.torch_dtype == "auto":
        chosen["torch_dtype"] = (dtype, why)
    cut = StepShape(
        by_data.batch * settings.gradient_accumulation_steps * settings.devices,
        by_memory.tokens,
        by_memory.share,
        None if packable else 1,
        settings.devices,
    )
    works, shared, _ = data.largest(cut)
    final = replace(chooser, learned=learned)
    peaks = [(final.peak(work, recompute=recompute), work) for work in works]
    peak, work = max(peaks, key=lambda pair: pair[0].total)
    steps, epochs = _steps(settings, by_data.epochs, data, cut)
    flops = shared * _operations(settings, shape, how, data, epochs, recompute)
    middle = flops / rate.flops / device.count
    return Plan(
        device=device,
        parts=peak.parts,
        peak_bytes=peak.total,
        peak_where=peak.where,
        allocated_bytes=peak.allocated,
        host_bytes=_host(device, data, peak.total),
        disk_bytes=disk_bytes(settings, shape, how),
        steps=steps,
        tokens=int(shared * data.tokens * epochs),
        seconds=(middle * rate.low, middle, middle * rate.high),
        time_source=rate.source,
        verdict=verdict(peak.total, device),
        margin_bytes=device.memory_bytes - peak.total,
        values=Values(by_data.learning_rate, by_data.epochs, dtype, recompute),
        chosen=chosen,
        work=work,
        cut=cut,
        flops_per_token=_once(shape, how, data, recompute) / data.tokens,
        notes=_notes(data, shape),
    )


def _notes(data: DataShape, shape: Shape) -> list[str]:
    notes = [data.assumption] if data.assumption else []
    if shape.num_experts:
        notes.append("experts: their activations are estimated, and were not measured")
    elif not (shape.fused and shape.gated):
        notes.append(f"{shape.model_type}: its layers are estimated, and were not measured")
    return notes


def _steps(settings: Settings, epochs: float, data: DataShape, cut: StepShape) -> tuple[int, float]:
    """Optimiser steps, and the epochs they make."""
    per_epoch = -(-data.samples // cut.samples_per_step)
    if settings.max_steps is not None:
        return settings.max_steps, settings.max_steps / per_epoch
    return max(1, -int(-epochs * per_epoch // 1)), epochs


def _once(shape: Shape, how: How, data: DataShape, recompute: bool) -> float:
    """Operations of one epoch of training."""
    return step_flops(
        shape,
        how,
        tokens=data.tokens,
        targets=float(data.targets.sum()),
        span=data.tokens / data.samples / 2,
        recompute=recompute,
    )


def _operations(
    settings: Settings, shape: Shape, how: How, data: DataShape, epochs: float, recompute: bool
) -> float:
    """Operations of the whole run."""
    forward = forward_flops(
        shape,
        tokens=data.tokens,
        targets=float(data.targets.sum()),
        span=data.tokens / data.samples / 2,
    )
    total = epochs * _once(shape, how, data, recompute)
    if settings.needs_reference:
        total += forward  # the reference, once
    if settings.objective == "kto":
        total += (1 + epochs) * forward  # mismatched answers: under the reference, and every step
    if data.held_out:
        total += (epochs + 1) * forward * data.held_out / data.samples
    return total


def _host(device: Device, data: DataShape, peak: int) -> int:
    """Host memory: on a CPU the peak itself."""
    rows = data.tokens * BYTES_PER_TOKEN
    return peak + rows if device.kind == "cpu" else HOST_PROCESS + rows


def disk_bytes(settings: Settings, shape: Shape, how: How) -> int:
    """Checkpoints that are kept at once, the one being written, and the result."""
    trained = trained_params(shape, how)
    weights = trained * (how.element if how.full else 4)
    masters = trained * (2 if how.element == 2 else 0) if how.full and how.masters else 0
    one = weights + masters + optimiser_bytes(shape, how)
    kept = settings.save_total_limit or 10
    return one * (kept + 2) + weights + 16 * MIB
