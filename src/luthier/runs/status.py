"""What state a run is in, read from what it wrote."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from luthier.events import Failed, Finished, Planned, Resumed, Started, Step, read_events
from luthier.locks import read_owner

State = Literal["running", "finished", "failed", "cancelled"]
"""The words that jobs of the service have for the same."""

LOST = "its process is gone"
"""Why a run failed that neither ended nor has anybody working in it."""

STOPPED_REASONS = {"stopped", "sigterm", "sigint", "interrupted"}


@dataclass(frozen=True, slots=True)
class Status:
    """A run at a glance."""

    path: Path
    state: State
    step: int
    total_steps: int | None
    loss: float | None  # of the last step
    pid: int | None  # of the process at work
    reason: str  # why it ended, in its own words

    @property
    def lost(self) -> bool:
        """Whether it did not say how it ended."""
        return self.state == "failed" and self.reason == LOST

    def __str__(self) -> str:
        total = f" of {self.total_steps:,}" if self.total_steps is not None else ""
        ending = f" ({self.reason})" if self.reason else ""
        owner = f" in process {self.pid}" if self.pid is not None else ""
        return f"{self.state}{owner} at step {self.step:,}{total}{ending}"


def read_status(path: Path, *, events_file: Path, lock_file: Path) -> Status:
    """The status of the run at `path`; what it says itself counts before whether it lives."""
    step, total, loss = 0, None, None
    ending: Finished | Failed | None = None
    for event in read_events(events_file) if events_file.exists() else ():
        match event:
            case Started():
                ending = None
            case Resumed():
                ending, step = None, event.from_step
            case Planned():
                total = event.steps if event.steps is not None else total
            case Step():
                finite = event.loss is not None and math.isfinite(event.loss)
                step, loss = event.step, event.loss if finite else None
            case Finished() | Failed():
                ending = event
    owner = read_owner(lock_file)
    pid = owner.pid if owner is not None and owner.alive else None
    state: State
    if ending is None:
        state, reason = ("failed", LOST) if pid is None else ("running", "")
    elif isinstance(ending, Failed):
        state, reason = "failed", ending.what
    else:
        reason = ending.reason
        state = "cancelled" if reason in STOPPED_REASONS else "finished"
    return Status(path, state, step, total, loss, pid, reason)
