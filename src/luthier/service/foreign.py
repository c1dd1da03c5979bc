"""Runs that the command line started, shown as jobs: read from their directories, never written."""

import hashlib
import os
import signal
import threading
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from luthier.config.read import Resolved, load_saved
from luthier.errors import JobStateError, LuthierError, WorkerLostError
from luthier.events import Failed, Started, read_events
from luthier.locks import Owner, read_owner
from luthier.runs import RunDirectory, list_runs
from luthier.service.records import Job
from luthier.service.states import State

_Signature = tuple[int, int, bool]


def id_of(path: Path) -> str:
    """The id of a run: always the same for the same place, and in the form of a job's."""
    return "ftjob-run" + hashlib.sha256(os.fsencode(path)).hexdigest()[:21]


@dataclass
class Foreign:
    """The registered runs that are no jobs.  What has not changed is not read again."""

    _known: dict[Path, tuple[_Signature, Job]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def runs(self, ours: Iterable[str]) -> list[Job]:
        """Runs outside of `ours` (run directories of jobs), newest first."""
        mine = set(ours)
        found = []
        with self._lock:
            for run in list_runs():
                if str(run.path) not in mine and (job := self._job(run)) is not None:
                    found.append(job)
        return sorted(found, key=lambda job: job.created_at, reverse=True)

    def _job(self, run: RunDirectory) -> Job | None:
        """None for one that cannot be read yet, or no more."""
        owner = read_owner(run.lock_file)
        alive = owner is not None and owner.alive
        with suppress(LuthierError, OSError, KeyError):
            about = run.events_file.stat()
            signature = (about.st_mtime_ns, about.st_size, alive)
            known = self._known.get(run.path)
            if known is None or known[0] != signature:
                self._known[run.path] = known = (signature, _read(run, owner if alive else None))
            return known[1]
        return None

    def cancel(self, job: Job) -> None:
        """SIGTERM to the process of a run: it saves and stops.

        Raises:
            JobStateError: It has ended.
        """
        owner = read_owner(job.run_path / "run.lock")
        if job.ended or owner is None or not owner.alive:
            raise JobStateError(
                f"{job.id} is {job.state}: cannot cancel",
                why="an ended run never changes",
                fix=f"luthier train --resume true --output_dir {job.run_path}",
            )
        with suppress(ProcessLookupError):  # it ended in this moment
            os.kill(owner.pid, signal.SIGTERM)


def _given(saved: Resolved) -> dict[str, object]:
    """What somebody asked for, so that a clone asks for the same."""
    values = saved.settings.model_dump(mode="json")
    asked = [name for name in values if saved.is_given(name)]
    return {name: values[name] for name in asked if name not in ("output_dir", "resume")}


def _read(run: RunDirectory, owner: Owner | None) -> Job:
    status, saved = run.status(), load_saved(run.settings_file)
    state: State = status.state
    created = float(run.info["created"])
    first, last, error = created, created, None
    for event in read_events(run.events_file):
        first = event.time if isinstance(event, Started) else first
        last = event.time
        if isinstance(event, Failed):
            error = {name: getattr(event, name) for name in ("code", "what", "why", "fix")}
    if status.lost:
        error = WorkerLostError(
            f"its process was gone at step {status.step}",
            why="it did not say how it ended",
            fix=f"luthier train --resume true --output_dir {run.path}",
        ).as_dict()
    return Job(
        id=id_of(run.path),
        name=run.name,
        state=state,
        settings=saved.settings.model_dump(mode="json"),
        provenance=saved.provenance,
        given=_given(saved),
        run_path=run.path,
        num_devices=saved.settings.devices,
        attempts=1,
        worker=owner,
        error=error if state == "failed" else None,
        created_at=created,
        started_at=first,
        finished_at=None if state == "running" else last,
        managed=False,
    )
