"""`/api/jobs`: what the page shows of jobs and does with them."""

import re
from pathlib import Path
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from pydantic import Field
from starlette.responses import FileResponse, Response, StreamingResponse

from luthier.advisor.health import judge
from luthier.errors import SettingsError
from luthier.events import read_events
from luthier.json_values import object_of
from luthier.languages import Language
from luthier.service.http import page_schemas, schemas
from luthier.service.http.door.envelope import ApiError, ApiJson, not_found
from luthier.service.http.door.refusals import refusal
from luthier.service.http.feeds import job_feed, state_of
from luthier.service.http.live.history import History
from luthier.service.http.live.streams import EventStream
from luthier.service.http.models import known_model, shown_model
from luthier.service.http.openai.create import Metadata, Strict
from luthier.service.http.openai.v1_jobs import checkpoints_page
from luthier.service.http.page.folder import job_files, open_file, zip_stream
from luthier.service.http.page.logs import read_logs
from luthier.service.http.page.machine_routes import STREAM_REPLY
from luthier.service.http.parts import limited, parts
from luthier.service.http.wire import read_json, resolved_settings
from luthier.service.records import Job, StateChange
from luthier.service.states import ALLOWED

router = APIRouter(prefix="/api/jobs", tags=["jobs"])
Action = Literal["cancel", "pause", "resume", "retry", "clone", "stop_early"]
BYTES: dict[int | str, dict[str, object]] = {
    200: {"content": {"application/octet-stream": {"schema": {"type": "string"}}}}
}
MAX_LOG_BYTES = 1 << 20
MAX_JUDGED_BYTES = 64 << 20
"""Of a longer run the figures are shown and not judged: reading them takes seconds."""


class NewJob(Strict):
    """A job in luthier's own settings; `dataset` and `eval_dataset` may hold file ids."""

    settings: dict[str, object]
    name: Annotated[str, Field(max_length=200)] = ""
    priority: Annotated[int, Field(ge=-1000, le=1000)] = 0
    metadata: Metadata = Field(default_factory=dict)


class JobChange(Strict):
    """What may be changed of a job."""

    priority: Annotated[int, Field(ge=-1000, le=1000)] | None = None
    name: Annotated[str, Field(max_length=200)] | None = None


class Changes(Strict):
    """Settings that differ in a clone."""

    settings: dict[str, object] = Field(default_factory=dict)


@router.get("", response_model=page_schemas.JobViewList)
def list_jobs(
    request: Request,
    state: Annotated[str | None, Query(max_length=200)] = None,
    after: Annotated[str | None, Query(max_length=100)] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
) -> Response:
    """Jobs and runs that the command line started, newest first.

    `state` is one or several with commas between them.
    """
    found = parts(request)
    states = [word for word in (state or "").split(",") if word]
    if unknown := [word for word in states if word not in ALLOWED]:
        raise ApiError(
            400,
            f"state={unknown[0]!r} is no state of a job",
            code="invalid_value",
            param="state",
            why=f"states are {', '.join(ALLOWED)}",
        )
    cursor = found.job(after).id if after else None
    limited(limit, low=1, high=500)
    jobs, more = found.jobs.listing.all(state=states or None, after=cursor, limit=limit)
    return ApiJson({"jobs": [state_of(found, job) for job in jobs], "has_more": more})


@router.post("", response_model=page_schemas.JobView)
def create_job(request: Request, body: NewJob) -> Response:
    """Queue a job."""
    found = parts(request)
    settings = dict(body.settings)
    if isinstance(model := settings.get("model"), str):
        settings["model"] = known_model(found, model)
    key = request.headers.get("idempotency-key")
    try:
        job = found.jobs.create(
            settings,
            name=body.name,
            priority=body.priority,
            metadata=body.metadata,
            idempotency_key=key or None,
        )
    except SettingsError as error:
        raise refusal(error, prefix="") from error
    return ApiJson(state_of(found, job))


@router.get("/{job_id}", response_model=page_schemas.JobDetail)
def get_job(request: Request, job_id: str, lang: Language = "en") -> Response:
    """One job: where it stands, its settings and where each came from, its plan and its data."""
    found = parts(request)
    job = found.job(job_id)
    settings, provenance, planned = resolved_settings(job)
    history = found.history(job)
    model = shown_model(found, job)
    best = next((one for one in reversed(history.events) if one.get("best") is True), None)
    changes = found.jobs.table.history(job.id) if job.managed else []
    detail: page_schemas.JobDetail = {
        "job": state_of(found, job),
        "settings": {**settings, "model": model},
        "provenance": provenance,
        "planned": planned,
        "given": {**job.given, "model": model},
        "files": found.jobs.table.files_of(job.id) if job.managed else [],
        "plan": read_json(job.run_path / "plan.json") or None,
        "data": read_json(job.run_path / "data.json") or None,
        "progress": _progress(history),
        "best": best,
        "finished": history.latest("finished") or None,
        "history": [_line(one) for one in changes],
        "warnings": [one for one in history.events if one.get("type") == "warning"][-50:],
        "verdicts": _verdicts(job.run_path / "events.jsonl", lang),
    }
    return ApiJson(detail)


def _progress(history: History) -> page_schemas.Progress:
    step = history.last_step
    return {
        "step": step.get("step"),
        "total": step.get("total"),
        "steps": step.get("total") or history.latest("planned").get("steps"),
        "loss": step.get("loss"),
        "learning_rate": step.get("learning_rate"),
        "grad_norm": step.get("grad_norm"),
        "tokens_per_s": step.get("tokens_per_s"),
        "seconds": step.get("seconds"),
        "eta_s": step.get("eta_s"),
        "elapsed_s": step.get("elapsed_s"),
        "metrics": step.get("metrics"),
        "time": step.get("time"),
        "trained_tokens": history.trained_tokens or None,
        "reference": history.reference or None,
    }


def _line(change: StateChange) -> page_schemas.HistoryLine:
    return {
        "number": change.number,
        "job": change.job,
        "time": change.time,
        "before": change.before,
        "after": change.after,
        "attempt": change.attempt,
        "reason": change.reason,
    }


def _verdicts(path: Path, lang: Language) -> list[page_schemas.VerdictView]:
    """What somebody with experience would say about the course of the run."""
    if not path.exists():
        return []
    if path.stat().st_size > MAX_JUDGED_BYTES:
        return []
    return [verdict.to_dict(lang) for verdict in judge(read_events(path))]


@router.post("/{job_id}/{action}", response_model=page_schemas.JobView)
def act(request: Request, job_id: str, action: Action, body: Changes | None = None) -> Response:
    """Cancel, pause, resume, retry, clone, or stop early with the best checkpoint so far."""
    found = parts(request)
    job = found.job(job_id)
    if action not in ("cancel", "clone"):
        _managed(job)
    changes = dict(body.settings) if body else {}
    if changes and action != "clone":
        raise ApiError(400, f"{action} takes no settings", code="invalid_value", param="settings")
    if isinstance(model := changes.get("model"), str):
        changes["model"] = known_model(found, model)
    try:
        if action == "clone":
            changed = found.jobs.clone(job.id, **changes)
        elif action == "cancel" and job.state == "cancelled":
            changed = job
        else:
            changed = getattr(found.jobs, action)(job.id)
    except SettingsError as error:
        raise refusal(error, prefix="settings.") from error
    return ApiJson(state_of(found, changed))


def _managed(job: Job) -> None:
    """Refuse to change what the service has not begun."""
    if not job.managed:
        raise ApiError(
            400,
            f"{job.name} was started by the command line",
            code="not_managed",
            why="the service shows it, and can only cancel or clone it",
            fix=f"luthier train --resume true --output_dir {job.run_path}",
        )


@router.patch("/{job_id}", response_model=page_schemas.JobView)
def change(request: Request, job_id: str, body: JobChange) -> Response:
    """Set priority or name."""
    found = parts(request)
    job = found.job(job_id)
    _managed(job)
    return ApiJson(
        state_of(found, found.jobs.change(job.id, priority=body.priority, name=body.name))
    )


@router.delete("/{job_id}", response_model=schemas.Deleted)
def delete(request: Request, job_id: str) -> Response:
    """Delete an ended job with its run directory."""
    found = parts(request)
    job = found.job(job_id)
    _managed(job)
    found.jobs.delete(job.id)
    return ApiJson({"id": job_id, "object": "job", "deleted": True})


@router.get("/{job_id}/metrics", response_model=page_schemas.Metrics)
def metrics(
    request: Request, job_id: str, points: Annotated[int, Query(ge=10, le=20_000)] = 1000
) -> Response:
    """Every figure of a run, thinned to about `points`; smallest and largest values survive."""
    found = parts(request)
    job = found.job(job_id)
    predicted = object_of(read_json(job.run_path / "plan.json").get("predicted"))
    figures: page_schemas.Metrics = {
        **found.history(job).metrics(points),
        "predicted": {"peak_bytes": predicted.get("peak_bytes")},
    }
    return ApiJson(figures)


@router.get("/{job_id}/stream", response_class=Response, responses=STREAM_REPLY)
async def stream(request: Request, job_id: str) -> Response:
    """Server-sent events: `state` first, then `step`, `evaluated`, `checkpoint` and so on."""
    found = parts(request)
    job = found.job(job_id)
    found.hub.gate.enter()
    return EventStream(
        found.hub.batches(f"job {job.id}", lambda: job_feed(found, job.id)),
        gate=found.hub.gate,
        stalled_s=found.limits.stalled_client_s,
    )


@router.get("/{job_id}/logs", response_model=page_schemas.Logs)
def logs(
    request: Request,
    job_id: str,
    after: Annotated[int, Query(ge=-MAX_LOG_BYTES, le=2**62)] = 0,
    limit: Annotated[int, Query(ge=1, le=MAX_LOG_BYTES)] = 65_536,
) -> Response:
    """What the process printed, from byte `after`; negative counts from the end."""
    return ApiJson(read_logs(parts(request).job(job_id).run_path, after=after, limit=limit))


@router.get("/{job_id}/checkpoints", response_model=schemas.CheckpointList)
def checkpoints(request: Request, job_id: str) -> Response:
    """Saved states that are still there, newest first."""
    found = parts(request)
    return ApiJson(checkpoints_page(found, found.job(job_id), None, 1000))


@router.get("/{job_id}/files", response_model=page_schemas.RunFiles)
def files(request: Request, job_id: str) -> Response:
    """Files of the run that can be downloaded."""
    return ApiJson({"files": job_files(parts(request).job(job_id))})


@router.get("/{job_id}/files/{path:path}", response_class=Response, responses=BYTES)
def download(request: Request, job_id: str, path: str) -> Response:
    """One file of the run; `result.zip` is the whole result."""
    job = parts(request).job(job_id)
    if path == "result.zip":
        if job.result is None or not job.result.is_dir():
            raise ApiError(
                400,
                f"{job.id} has no result: it is {job.state}",
                code="no_result",
                why="a result is there when a job has finished",
            )
        name = re.sub(r"[^A-Za-z0-9._-]", "-", job.name or job.id)
        disposition = f'attachment; filename="{name}.zip"'
        return StreamingResponse(
            zip_stream(job.result),
            media_type="application/zip",
            headers={"content-disposition": disposition},
        )
    opened = open_file(job, path)
    if opened is None:
        raise not_found("file", path, param="path")
    return FileResponse(opened, media_type="application/octet-stream", filename=opened.name)
