"""What state a run is in, read from what it wrote."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from luthier import events
from luthier.locks import read_owner

State = Literal["running", "finished", "failed", "stopped", "interrupted"]
STOPPED_REASONS = {"stopped", "sigterm", "sigint", "interrupted"}


@dataclass(frozen=True, slots=True)
class Status:
    """A run at a glance."""

    path: Path
    state: State  # interrupted: it neither ended nor is anybody working in it
    step: int
    total_steps: int | None
    loss: float | None  # of the last step
    pid: int | None  # of the process at work
    reason: str  # why it ended, in its own words

    def __str__(self) -> str:
        total = f" of {self.total_steps:,}" if self.total_steps is not None else ""
        ending = f" ({self.reason})" if self.reason else ""
        owner = f" in process {self.pid}" if self.pid is not None else ""
        return f"{self.state}{owner} at step {self.step:,}{total}{ending}"


def read_status(path: Path, *, events_file: Path, lock_file: Path) -> Status:
    """The status of the run at `path`; what it says itself counts before whether it lives."""
    step, total, loss = 0, None, None
    ending: dict[str, Any] | None = None
    for event in events.read(events_file) if events_file.exists() else ():
        kind = event.get("type")
        if kind in {"started", "resumed"}:
            ending = None
            step = event.get("from_step", step)
        elif kind == "planned":
            total = event.get("steps", total)
        elif kind == "step":
            step, loss = event["step"], event.get("loss")
        elif kind in {"finished", "failed"}:
            ending = event
    owner = read_owner(lock_file)
    pid = owner.pid if owner is not None and owner.alive else None
    state: State
    if ending is None:
        state, reason = ("interrupted" if pid is None else "running"), ""
    elif ending["type"] == "failed":
        state, reason = "failed", str(ending.get("what", ""))
    else:
        reason = str(ending.get("reason", ""))
        state = "stopped" if reason in STOPPED_REASONS else "finished"
    return Status(path, state, step, total, loss, pid, reason)
