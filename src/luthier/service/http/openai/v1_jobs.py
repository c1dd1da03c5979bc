"""`/v1/fine_tuning/jobs`: create, follow, stop."""

import hashlib
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from luthier.errors import LuthierError, SettingsError
from luthier.json_values import whole_of
from luthier.service.http import schemas
from luthier.service.http.door.envelope import ApiError, ApiJson, dump, not_found
from luthier.service.http.door.refusals import refusal, unknown_file
from luthier.service.http.feeds import job_feed
from luthier.service.http.live.streams import EventStream
from luthier.service.http.models import known_model, shown_model
from luthier.service.http.openai.create import CreateJob, job_request
from luthier.service.http.openai.job_events import events_page, run_event
from luthier.service.http.openai.results import result_files
from luthier.service.http.parts import FILE_ID, Parts, limited, parts
from luthier.service.http.wire import checkpoint_object, job_object, page, shortened
from luthier.service.records import Job

router = APIRouter(prefix="/v1/fine_tuning", tags=["fine-tuning"])
REPEAT_S = 600.0
MAX_RECENT = 1000
Limit = Annotated[int, Query(ge=1, le=1000)]
After = Annotated[str | None, Query(max_length=200)]


def view(found: Parts, job: Job, *, listed: bool = False) -> schemas.FineTuningJob:
    """A job as OpenAI's object; in a list the same, but for long texts among the settings."""
    history = found.history(job)
    files = tuple(found.jobs.table.files_of(job.id)) if job.managed else ()
    results = result_files(found, job)
    shown = job_object(
        job,
        history,
        model=shown_model(found, job),
        file_ids=files,
        result_files=results,
    )
    if listed:
        shown["luthier"]["settings"] = shortened(shown["luthier"]["settings"])
    return shown


class Recent:
    """Jobs made a moment ago, by what was asked, for clients that ask again without a key."""

    def __init__(self) -> None:
        self._jobs: OrderedDict[str, tuple[str, float]] = OrderedDict()

    def find(self, digest: str) -> str | None:
        """The job that the same request made within `REPEAT_S`."""
        job, moment = self._jobs.get(digest, ("", 0.0))
        return job if job and time.monotonic() - moment < REPEAT_S else None

    def remember(self, digest: str, job: str) -> None:
        """This request made this job."""
        self._jobs[digest] = (job, time.monotonic())
        while len(self._jobs) > MAX_RECENT:
            self._jobs.popitem(last=False)


@router.post("/jobs", response_model=schemas.FineTuningJob)
async def create_job(request: Request, body: CreateJob) -> Response:
    """Queue a fine-tuning job.  `auto` becomes a number when the run is planned, and is echoed.

    An `Idempotency-Key` header makes repeating safe; the repetitions of OpenAI's clients, which
    send none, are recognised by their body.
    """
    digest = hashlib.sha256(await request.body()).hexdigest()
    key = request.headers.get("idempotency-key")
    if key is not None and not 1 <= len(key) <= 255:
        raise ApiError(400, "idempotency-key has 1 to 255 characters", code="invalid_value")
    recent: Recent = request.app.state.recent
    if _is_repeat(request) and key is None and (known := recent.find(digest)) is not None:
        return ApiJson(
            await run_in_threadpool(lambda: view(parts(request), known_job(request, known)))
        )
    job = await run_in_threadpool(_create, parts(request), body, key)
    recent.remember(digest, job.id)
    return ApiJson(await run_in_threadpool(view, parts(request), job))


def known_job(request: Request, id: str) -> Job:
    """A job that exists, by id."""
    return parts(request).job(id)


def _is_repeat(request: Request) -> bool:
    count = request.headers.get("x-stainless-retry-count", "0")
    return count.isdigit() and int(count[:4]) > 0


def _create(found: Parts, body: CreateJob, key: str | None) -> Job:
    wanted = job_request(body)
    for name in ("training_file", "validation_file"):
        if (id := getattr(body, name)) is not None:
            _check_file(found, name, id)
    wanted.settings["model"] = known_model(found, body.model, param="model")
    try:
        return found.jobs.create(
            wanted.settings,
            name=wanted.name,
            priority=wanted.priority,
            idempotency_key=key,
            metadata=body.metadata or {},
            suffix=body.suffix or "",
        )
    except SettingsError as error:
        raise refusal(error) from error


def _check_file(found: Parts, name: str, id: str) -> None:
    try:
        if not FILE_ID.fullmatch(id):
            raise not_found("file", id, param=name)
        file = found.files.get(id)
    except LuthierError as error:
        raise unknown_file(name, error) from error
    except ApiError as error:
        raise ApiError(400, error.message, code=f"invalid_{name}", param=name) from error
    if file.purpose not in ("fine-tune", "user_data", "evals"):
        raise ApiError(
            400,
            f"{id} was uploaded with purpose={file.purpose}",
            code=f"invalid_{name}",
            param=name,
            why="training reads files of purpose fine-tune",
        )


@router.get("/jobs", response_model=schemas.FineTuningJobList)
def list_jobs(request: Request, after: After = None, limit: Limit = 20) -> Response:
    """Jobs, newest first; `metadata[key]=value` and `metadata=null` choose among them."""
    limited(limit, low=1, high=1000)
    found, wanted = parts(request), _wanted_metadata(request)
    cursor = _job_cursor(found, after)
    jobs: list[Job] = []
    more = True
    while more and len(jobs) <= limit:
        some, more = found.jobs.table.list(
            after=cursor, limit=max(limit, 100) if wanted else limit + 1
        )
        jobs += [job for job in some if wanted is None or wanted(job)]
        cursor = some[-1].id if some else cursor
        if wanted is None:
            break
    shown = [view(found, job, listed=True) for job in jobs[:limit]]
    return ApiJson(page(shown, more or len(jobs) > limit))


def _wanted_metadata(request: Request) -> Callable[[Job], bool] | None:
    pairs, empty = {}, False
    for name, value in request.query_params.multi_items():
        if name == "metadata" and value == "null":
            empty = True
        elif name.startswith("metadata[") and name.endswith("]"):
            pairs[name[len("metadata[") : -1]] = value
    if empty:
        return lambda job: not job.metadata
    if pairs:
        return lambda job: all(job.metadata.get(key) == value for key, value in pairs.items())
    return None


def _job_cursor(found: Parts, after: str | None) -> str | None:
    if after is None:
        return None
    try:
        return found.jobs.table.get(found.job(after).id).id
    except (LuthierError, ApiError) as error:
        raise ApiError(
            400, f"after={after[:60]!r} is no job of this list", code="invalid_value", param="after"
        ) from error


@router.get("/jobs/{job_id}", response_model=schemas.FineTuningJob)
def get_job(request: Request, job_id: str) -> Response:
    """Where a job stands, with its settings as they were resolved."""
    found = parts(request)
    return ApiJson(view(found, found.job(job_id)))


@router.post("/jobs/{job_id}/cancel", response_model=schemas.FineTuningJob)
def cancel_job(request: Request, job_id: str) -> Response:
    """Stop a job for good; cancelling one that is cancelled changes nothing."""
    found = parts(request)
    job = found.job(job_id)
    job = job if job.state == "cancelled" else found.jobs.cancel(job.id)
    return ApiJson(view(found, job))


@router.post("/jobs/{job_id}/pause", response_model=schemas.FineTuningJob)
def pause_job(request: Request, job_id: str) -> Response:
    """Save a checkpoint and give the device back."""
    found = parts(request)
    return ApiJson(view(found, found.jobs.pause(found.job(job_id).id)))


@router.post("/jobs/{job_id}/resume", response_model=schemas.FineTuningJob)
def resume_job(request: Request, job_id: str) -> Response:
    """Go on with a paused job, from its checkpoint."""
    found = parts(request)
    return ApiJson(view(found, found.jobs.resume(found.job(job_id).id)))


@router.get("/jobs/{job_id}/events", response_model=schemas.JobEventList)
def list_events(
    request: Request,
    job_id: str,
    after: After = None,
    limit: Limit = 20,
    stream: bool = False,
) -> Response:
    """What happened, newest first.  `stream=true`: as server-sent events, as it happens."""
    limited(limit, low=1, high=1000)
    found = parts(request)
    job = found.job(job_id)
    log = found.jobs.table.history(job.id) if job.managed else []
    events, more = events_page(job, log, after=after, limit=limit)
    if stream:
        found.hub.gate.enter()
        return EventStream(
            _following(found, job, events),
            gate=found.hub.gate,
            stalled_s=found.limits.stalled_client_s,
            ending=b"data: [DONE]\n\n",
        )
    return ApiJson(page(events, more))


async def _following(
    found: Parts, job: Job, past: list[schemas.JobEvent]
) -> AsyncIterator[bytes | None]:
    """The last events, oldest first, and then each as it comes: what OpenAI's decoder can read."""
    for event in reversed(past):
        yield b"data: " + dump(event) + b"\n\n"
    name = f"wire {job.id}"
    async for batch in found.hub.batches(name, lambda: job_feed(found, job.id, wire=run_event)):
        yield batch


@router.get("/jobs/{job_id}/checkpoints", response_model=schemas.CheckpointList)
def list_checkpoints(
    request: Request, job_id: str, after: After = None, limit: Limit = 10
) -> Response:
    """Saved states that are still there, newest first."""
    limited(limit, low=1, high=1000)
    found = parts(request)
    job = found.job(job_id)
    return ApiJson(checkpoints_page(found, job, after, limit))


def checkpoints_page(
    found: Parts, job: Job, after: str | None, limit: int
) -> schemas.ListPage[schemas.Checkpoint]:
    """Saved states that are still on the disk, newest first."""
    history = found.history(job)
    saved = {
        whole_of(event.get("step")) or 0: event
        for event in history.events
        if event.get("type") == "checkpoint"
    }
    steps = sorted(saved, reverse=True)
    steps = [step for step in steps if (job.run_path / "checkpoints" / f"step-{step:06d}").is_dir()]
    objects = [checkpoint_object(job, saved[step], history) for step in steps]
    if after is not None:
        ids = [one["id"] for one in objects]
        if after not in ids:
            raise ApiError(
                400,
                f"after={after[:80]!r} is no checkpoint of this job",
                code="invalid_value",
                param="after",
            )
        objects = objects[ids.index(after) + 1 :]
    return page(objects[:limit], len(objects) > limit, empty_ends=not objects)
