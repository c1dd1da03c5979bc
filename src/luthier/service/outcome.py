"""How an attempt ended, and what that makes of its job."""

import signal
from dataclasses import dataclass, field
from pathlib import Path

from luthier.bounded import decode_ours
from luthier.errors import WorkerLostError
from luthier.events import Failed, Finished
from luthier.runs.exit_status import BUSY, FENCED
from luthier.service.follow import Follow
from luthier.service.job_table import JobColumns
from luthier.service.records import Job
from luthier.service.states import State

MAX_RETRIES = 2


@dataclass(frozen=True)
class Outcome:
    """The state that follows, why, and the columns that change with it.

    Args:
        wait: Whether to let some time pass before the next attempt.
    """

    state: State
    reason: str
    values: JobColumns = field(default_factory=JobColumns)
    wait: bool = False


def of(job: Job, follow: Follow, status: int | None) -> Outcome:
    """What became of an attempt whose process is gone.

    Args:
        status: Its exit status where this server started it.
    """
    ending = follow.ending
    stopped = isinstance(ending, Finished) and ending.reason == "interrupted"
    if isinstance(ending, Finished) and not stopped:
        return Outcome("finished", f"training ended: {ending.reason}", {"error": None})
    if job.wish == "cancel":
        return Outcome("cancelled", "stopped as asked")
    if isinstance(ending, Failed):
        error = {name: getattr(ending, name) for name in ("code", "what", "why", "fix")}
        return Outcome("failed", error["what"], {"error": error})
    if job.wish == "pause":
        return Outcome("paused", f"stopped as asked, at step {follow.step}")
    if status == BUSY:
        return Outcome("queued", "the device or the run was in use", wait=True)
    if status == FENCED or (job.worker is None and status is None):
        reason = "no process was started for it, or a later one took its place"
        return Outcome("queued", reason, wait=True)
    lost = _lost(job, follow, status, stopped=stopped)
    if job.retries >= MAX_RETRIES:
        error = lost.as_dict()
        return Outcome("failed", lost.what, {"error": error})
    retries = job.retries + 1
    reason = f"{lost.what}; automatic retry {retries} of {MAX_RETRIES}"
    return Outcome("queued", reason, {"retries": retries, "error": lost.as_dict()}, wait=True)


def _lost(job: Job, follow: Follow, status: int | None, *, stopped: bool) -> WorkerLostError:
    number = f" {job.worker.pid}" if job.worker is not None else ""  # gone before it was looked at
    who = f"process{number} of attempt {job.attempts}"
    if stopped:
        what = f"{who} was stopped from outside at step {follow.step}"
    elif status is not None and status < 0:
        what = f"{who} was killed by {_signal(-status)} at step {follow.step}"
    elif status is not None:
        what = f"{who} ended with status {status} at step {follow.step}"
    else:
        what = f"{who} was gone at step {follow.step}"
    memory = "; SIGKILL is what the system sends when memory runs out" if status == -9 else ""
    said = last_lines(job.run_path / "stderr.log")
    return WorkerLostError(
        what,
        why=f"it did not say how it ended{memory}" + (f"; its last lines: {said}" if said else ""),
        fix=f"look at {job.run_path / 'stderr.log'}; luthier jobs retry {job.id} goes on from the "
        "last checkpoint",
    )


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def last_lines(path: Path, count: int = 3) -> str:
    """The end of a log, in one line."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 4096))
            lines = file.read().decode("utf-8", "replace").strip().splitlines()
    except FileNotFoundError:
        return ""
    return " | ".join(line.strip()[:300] for line in lines[-count:])


def from_json(text: str) -> dict[str, object]:
    """A stored mapping."""
    value: dict[str, object] = decode_ours(text)
    return value
