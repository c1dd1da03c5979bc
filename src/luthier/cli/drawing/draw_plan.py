"""A plan as people read it."""

import textwrap

from luthier.cli.drawing.render import cell, line
from luthier.config.settings import Settings
from luthier.planner.plan import Plan
from luthier.planner.refuse import as_flags
from luthier.recipes.exact.dry_run import ExactPlan
from luthier.units import format_bytes, format_count, format_duration

BAR = 40
WIDTH = 100
VERDICTS = {"fits": "it fits", "tight": "it is tight", "no": "it does not fit"}
ABOUT = {
    "weights": "the base model",
    "quantisation": "scales of the quantised layers",
    "adapters": "the adapter, in float32",
    "gradients": "in float32",
    "optimiser": "moments, and masters of 16-bit weights",
    "activations": "kept from forward to backward",
    "head": "logits of one chunk, hidden states",
    "workspace": "made and dropped within a layer",
    "runtime": "libraries, context, fragmentation",
}


def show(plan: Plan, settings: Settings) -> None:
    """Memory by part, time, disk, what was chosen, and what would make it fit."""
    device = plan.device
    name = device.name if device.count == 1 else f"{device.count} x {device.name}"
    line(f"{settings.model}, {settings.method}, {settings.objective}, on {name}")
    line("")
    _memory(plan)
    line("")
    _rest(plan)
    if plan.chosen:
        line("")
        line("chosen")
        for setting, (value, reason) in plan.chosen.items():
            _wrapped(f"  {setting}: {cell(value)}", reason)
    for note in plan.notes:
        line("")
        _wrapped("note", note)
    if plan.verdict == "no":
        line("")
        _changes(plan)


def exact(walked: ExactPlan, plan: Plan) -> None:
    """What the dry run counted, beside the closed form."""
    off = plan.allocated_bytes / max(1, walked.peak_bytes) - 1
    line("")
    line(f"exact   {format_bytes(walked.peak_bytes)} of tensors at the peak, in {walked.peak_where}; "
         f"the closed form says {format_bytes(plan.allocated_bytes)}, {off:+.1%}")  # fmt: skip
    for part, size in walked.parts.items():
        if size:
            line(f"  {part:<13}{format_bytes(size):>9}")
    line(f"        one step of the training code without memory, in {walked.seconds:.1f} s")
    for note in walked.notes:
        _wrapped("note", note)


def _memory(plan: Plan) -> None:
    left = plan.margin_bytes
    rest = f"{format_bytes(left)} left" if left >= 0 else f"{format_bytes(-left)} too much"
    total = format_bytes(plan.device.memory_bytes)
    line(f"memory  {format_bytes(plan.peak_bytes)} of {total}: {VERDICTS[plan.verdict]}, {rest}")
    line(f"        at its peak, in {plan.peak_where}:")
    scale = max(plan.peak_bytes, plan.device.memory_bytes)
    for part, size in plan.parts.items():
        if size:
            bar = "█" * max(1, round(BAR * size / scale))
            line(f"  {part:<13}{format_bytes(size):>9}  {bar:<{BAR // 2}}  {ABOUT[part]}")


def _rest(plan: Plan) -> None:
    low, middle, high = (format_duration(seconds) for seconds in plan.seconds)
    line(f"time    {middle}, between {low} and {high}")
    line(f"        by {plan.time_source}")
    line(f"work    {plan.steps:,} steps, {format_count(plan.tokens)} tokens; at most "
         f"{plan.work.tokens:,} tokens at once, {plan.work.targets:,} of them with loss")  # fmt: skip
    line(
        f"host    {format_bytes(plan.host_bytes)} of {format_bytes(plan.device.host_memory_bytes)}"
    )
    free = format_bytes(plan.device.disk_free_bytes)
    line(f"disk    {format_bytes(plan.disk_bytes)} for checkpoints and result, {free} free")


def _wrapped(head: str, text: str) -> None:
    body = textwrap.wrap(text, WIDTH - 6) or [""]
    if len(head) + len(text) + 2 <= WIDTH:
        line(f"{head}, {text}" if head.startswith("  ") else f"{head}: {text}")
        return
    line(head if head.startswith("  ") else f"{head}:")
    for part in body:
        line(f"      {part}")


def _changes(plan: Plan) -> None:
    if not plan.changes:
        line("nothing that is known makes it fit: choose a smaller model")
        return
    line("what would make it fit, each planned again")
    for change in plan.changes:
        if "device" in change.settings:
            line(f"  a larger device: {change.settings['device']}")
            continue
        line(f"  {as_flags(change.settings)}")
        line(f"      saves {format_bytes(change.saves_bytes)}; {change.costs}")
