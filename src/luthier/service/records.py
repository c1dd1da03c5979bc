"""A job as it is handed to others: a snapshot of its row."""

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from luthier.bounded import decode_ours
from luthier.locks import Owner
from luthier.service.states import ACTIVE, TERMINAL, State, Wish


@dataclass(frozen=True, slots=True)
class Job:
    """One job at one moment.  Times are seconds since the epoch.

    Args:
        settings: All settings, resolved when the job was accepted.
        provenance: Where each came from.
        given: What was asked for, as it was given; file ids unresolved.
        wish: What was asked of it and is not done yet.
        attempts: Processes that were started for it.
        retries: How many of them replaced one that was lost.
        error: code, what, why, fix; of a failed job, or why it is tried again.
        model: Name of the result, once there is one.
        managed: False for a run that the command line started: it is only shown, and can be
            cancelled.
    """

    id: str
    name: str
    state: State
    settings: Mapping[str, object]
    provenance: Mapping[str, str]
    given: Mapping[str, object]
    run_path: Path
    priority: int = 0
    kind: str = "train"
    wish: Wish | None = None
    suffix: str = ""
    num_devices: int = 1
    devices: tuple[str, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)
    retry_of: str | None = None
    attempts: int = 0
    retries: int = 0
    events_from: int = 0
    worker: Owner | None = None
    error: Mapping[str, str] | None = None
    model: str | None = None
    created_at: float = 0.0
    queued_at: float | None = None
    started_at: float | None = None
    finished_at: float | None = None
    managed: bool = True

    @property
    def ended(self) -> bool:
        """Whether it is in its last state."""
        return self.state in TERMINAL

    @property
    def active(self) -> bool:
        """Whether a process may be at work for it."""
        return self.state in ACTIVE

    @property
    def result(self) -> Path | None:
        """Folder of the adapter or model of a finished job."""
        return self.run_path / "result" if self.state == "finished" else None


@dataclass(frozen=True, slots=True)
class StateChange:
    """A line of a job's history: what it was, what it became and why.

    Args:
        number: Counts over all jobs.
        time: Seconds since the epoch.
        before: None for the first.
    """

    number: int
    job: str
    time: float
    before: str | None
    after: str
    attempt: int
    reason: str


def job_of(row: sqlite3.Row) -> Job:
    """The job of a database row."""
    resolved = decode_ours(row["resolved"])
    worker = decode_ours(row["worker"]) if row["worker"] else None
    return Job(
        id=row["id"],
        name=row["name"],
        state=row["state"],
        settings=resolved["settings"],
        provenance=resolved["provenance"],
        given=decode_ours(row["given"]),
        run_path=Path(row["run_path"]),
        priority=row["priority"],
        kind=row["kind"],
        wish=row["wish"],
        suffix=row["suffix"],
        num_devices=row["num_devices"],
        devices=tuple(decode_ours(row["devices"])),
        metadata=decode_ours(row["metadata"]),
        retry_of=row["retry_of"],
        attempts=row["attempts"],
        retries=row["retries"],
        events_from=row["events_from"],
        worker=Owner(**worker) if worker else None,
        error=decode_ours(row["error"]) if row["error"] else None,
        model=row["model"],
        created_at=row["created_at"],
        queued_at=row["queued_at"],
        started_at=row["started_at"],
        finished_at=row["finished_at"],
    )
