"""Runs that the command line started: shown beside the jobs, read from their directories alone."""

import hashlib
from pathlib import Path
from typing import Any

from luthier.locks import read_owner
from luthier.runs import RunDirectory, list_runs
from luthier.runs.status import STOPPED_REASONS
from luthier.service.http.parts import OUTSIDE, Parts
from luthier.service.http.wire import read_json
from luthier.service.records import Job
from luthier.service.states import State

MAX_SHOWN = 200


def outside_id(path: Path) -> str:
    """The id of a run that is no job."""
    return OUTSIDE + hashlib.sha256(str(path).encode()).hexdigest()[: 30 - len(OUTSIDE)]


def outside_jobs(found: Parts) -> list[Job]:
    """Runs of this user that no job made, newest first."""
    rows = found.jobs.store.read("SELECT run_path FROM jobs")
    known = {row["run_path"] for row in rows}
    runs = [run for run in list_runs() if str(run.path) not in known]
    return [_job(found, run) for run in reversed(runs[-MAX_SHOWN:])]


def outside_job(found: Parts, id: str) -> Job | None:
    """The run of an id."""
    runs = (run for run in list_runs() if outside_id(run.path) == id)
    run = next(runs, None)
    return _job(found, run) if run is not None else None


def _job(found: Parts, run: RunDirectory) -> Job:
    history = found.histories.of(run.path).update()
    saved = read_json(run.settings_file)
    settings = saved.get("settings") or {}
    ending: dict[str, Any] = next(
        (
            one
            for one in reversed(history.events)
            if one["type"] in ("finished", "failed", "resumed")
        ),
        {},
    )
    owner = read_owner(run.lock_file)
    state, error = _state(ending, alive=owner is not None and owner.alive)
    started = next((one["time"] for one in history.events if one["type"] == "started"), None)
    created = started if isinstance(started, int | float) else _begun(run.path)
    over = state in ("finished", "failed", "cancelled")
    return Job(
        id=outside_id(run.path),
        name=run.name,
        state=state,
        settings=settings,
        provenance=saved.get("provenance") or {},
        given={name: settings[name] for name in ("model", "dataset") if name in settings},
        run_path=run.path,
        error=error,
        created_at=float(created),
        started_at=float(created),
        finished_at=float(ending.get("time", created)) if over else None,
        managed=False,
    )


def _state(ending: dict[str, object], *, alive: bool) -> tuple[State, dict[str, str] | None]:
    kind = ending.get("type")
    if kind == "failed":
        names = ("code", "what", "why", "fix")
        return "failed", {name: str(ending.get(name, "")) for name in names}
    if kind == "finished":
        return ("cancelled" if ending.get("reason") in STOPPED_REASONS else "finished"), None
    if alive:
        return "running", None
    lost = {
        "code": "E713",
        "what": "the run was interrupted: nobody works in it",
        "why": "",
        "fix": "",
    }
    return "failed", lost


def _begun(path: Path) -> float:
    try:
        return (path / "run.json").stat().st_mtime
    except FileNotFoundError:
        return 0.0
