"""What this machine has shown so far: its rate, timed once, and the runs that were planned and done.

`LUTHIER_HOME/machine.json` has the rate of plain products by dtype; `LUTHIER_HOME/planned.jsonl` one
line a run with what was predicted and what was measured.
"""

import json
import math
import statistics
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from luthier.bounded import decode_ours
from luthier.durable import append_line, make_folders, write_atomic
from luthier.planner.device import Device
from luthier.planner.times import Rate, guessed_rate
from luthier.runs import home

RECENT = 5
"""Runs that are looked at, the newest ones."""

EFFICIENCY = 0.5
"""Share of the timed rate of products that a training step reaches until a run has shown it."""

NEAR = math.log(4)
"""A past run counts as like this one up to four times as many or as few parameters."""


@dataclass(frozen=True, slots=True)
class PastRun:
    """A run that was planned and done.

    Args:
        device: Its name.
        dtype: Of compute.
        method: `full`, `lora` or `qlora`.
        parameters: Of the base.
        flops: Useful operations per second of its steps, the first left out; None where the run
            was too short to say.
        predicted_bytes: Peak of tensors, from the plan.
        measured_bytes: The same, measured; on a CPU the growth of resident memory.
        runtime_bytes: What the process took besides its tensors.
    """

    device: str
    dtype: str
    method: str
    parameters: int
    flops: float | None
    predicted_bytes: int
    measured_bytes: int
    runtime_bytes: int
    time: float = field(default_factory=time.time)


def machine_file() -> Path:
    """Where the timed rate is."""
    return home() / "machine.json"


def runs_file() -> Path:
    """Where past runs are."""
    return home() / "planned.jsonl"


def record(done: PastRun) -> None:
    """Add a run.

    Raises:
        RunError: The file cannot be written.
    """
    make_folders(runs_file().parent)
    append_line(runs_file(), json.dumps(asdict(done)))


def past() -> Iterator[PastRun]:
    """Runs of this machine, oldest first; lines that are no run are left out."""
    path = runs_file()
    if not path.is_file():
        return
    for line in path.read_text("utf-8", "replace").splitlines():
        try:
            yield PastRun(**decode_ours(line))
        except (ValueError, TypeError):
            continue  # half a line, or one of another version


def timed(device: Device, dtype: str) -> float | None:
    """Operations per second of plain products, as `luthier doctor` timed them."""
    rates = _machine().get(device.name, {})
    value = rates.get(dtype) if isinstance(rates, dict) else None
    return float(value) if isinstance(value, int | float) and value > 0 else None


def keep_rate(device_name: str, dtype: str, flops: float) -> None:
    """Remember the rate of plain products."""
    known = _machine()
    known.setdefault(device_name, {})[dtype] = flops
    make_folders(machine_file().parent)
    write_atomic(machine_file(), json.dumps(known, indent=2) + "\n")


def _machine() -> dict[str, Any]:
    path = machine_file()
    if not path.is_file():
        return {}
    try:
        known = decode_ours(path.read_text("utf-8"))
    except ValueError:
        return {}  # it is timed again
    return known if isinstance(known, dict) else {}


def rate_of(device: Device, dtype: str, parameters: int) -> Rate:
    """The best rate that is known: past runs here, else timed products, else the data sheet."""
    if not device.measured:
        return guessed_rate(device)
    runs = [run for run in past() if run.device == device.name and run.dtype == dtype and run.flops]
    like = [run for run in runs if abs(math.log(run.parameters / max(1, parameters))) <= NEAR]
    if like:
        rates = [run.flops for run in like[-RECENT:] if run.flops]
        middle = statistics.median(rates)
        spread = max(max(rates) / middle, middle / min(rates), 1.15)
        source = f"the rate of {len(rates)} past run(s) here of about this size"
        return Rate(middle, 1 / spread, spread, source)
    if runs:
        rates = [run.flops for run in runs[-RECENT:] if run.flops]
        source = f"the rate of {len(rates)} past run(s) here of other sizes"
        return Rate(statistics.median(rates), 0.5, 2.0, source)
    if (flops := timed(device, dtype)) is not None:
        source = f"{EFFICIENCY:.0%} of the rate of products that this machine was timed at"
        return Rate(EFFICIENCY * flops, 0.6, 2.0, source)
    return guessed_rate(device)


def learned_runtime(device: Device) -> int | None:
    """What recent runs on this machine took besides their tensors, the most of them."""
    if not device.measured:
        return None
    runs = [run.runtime_bytes for run in past() if run.device == device.name]
    return max(runs[-RECENT:]) if runs else None
