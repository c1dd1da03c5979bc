"""Shapes of replies, for the OpenAPI document; tests hold the replies to them."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class Reply(BaseModel):
    """A reply may grow; what is named here stays."""

    model_config = ConfigDict(extra="allow", protected_namespaces=())


class ErrorBody(Reply):
    """A refusal: what (with the value), why (with the rule), fix (to paste)."""

    message: str
    type: str
    param: str | None
    code: str | None
    why: str | None = None
    fix: str | None = None


class ErrorEnvelope(Reply):
    """How every error is told."""

    error: ErrorBody


class Deleted(Reply):
    """Something is gone."""

    id: str
    object: str
    deleted: bool


class FileObject(Reply):
    """An uploaded file."""

    id: str
    object: Literal["file"]
    bytes: int
    created_at: int
    filename: str
    purpose: str
    status: Literal["uploaded", "processed", "error"]
    expires_at: int | None
    status_details: str | None


class FileList(Reply):
    """A page of files."""

    object: Literal["list"]
    data: list[FileObject]
    has_more: bool


class UploadObject(Reply):
    """A file that arrives in parts."""

    id: str
    object: Literal["upload"]
    bytes: int
    created_at: int
    expires_at: int
    filename: str
    purpose: str
    status: Literal["pending", "completed", "cancelled", "expired"]
    file: FileObject | None


class UploadPart(Reply):
    """A part of it."""

    id: str
    object: Literal["upload.part"]
    created_at: int
    upload_id: str


class JobError(Reply):
    """Why a job failed."""

    code: str
    message: str
    param: str | None


class FineTuningJob(Reply):
    """A fine-tuning job; `luthier` has its settings, resolved, with where each came from."""

    id: str
    object: Literal["fine_tuning.job"]
    created_at: int
    finished_at: int | None
    model: str
    fine_tuned_model: str | None
    organization_id: str
    status: Literal[
        "validating_files",
        "queued",
        "running",
        "pausing",
        "paused",
        "succeeded",
        "failed",
        "cancelled",
    ]
    training_file: str
    validation_file: str | None
    hyperparameters: dict[str, Any]
    method: dict[str, Any]
    seed: int
    result_files: list[str]
    trained_tokens: int | None
    estimated_finish: int | None
    error: JobError | None
    integrations: list[dict[str, Any]] | None
    metadata: dict[str, str] | None
    luthier: dict[str, Any]


class FineTuningJobList(Reply):
    """A page of jobs, newest first."""

    object: Literal["list"]
    data: list[FineTuningJob]
    has_more: bool


class JobEvent(Reply):
    """Something that happened in a job; metrics are in `data`."""

    id: str
    object: Literal["fine_tuning.job.event"]
    created_at: int
    level: Literal["info", "warn", "error"]
    message: str
    type: Literal["message", "metrics"]
    data: dict[str, Any]


class JobEventList(Reply):
    """A page of events, newest first."""

    object: Literal["list"]
    data: list[JobEvent]
    has_more: bool


class Checkpoint(Reply):
    """A saved state of a job."""

    id: str
    object: Literal["fine_tuning.job.checkpoint"]
    created_at: int
    fine_tuned_model_checkpoint: str
    fine_tuning_job_id: str
    step_number: int
    metrics: dict[str, float]


class CheckpointList(Reply):
    """A page of checkpoints, newest first."""

    object: Literal["list"]
    data: list[Checkpoint]
    has_more: bool
    first_id: str | None = None
    last_id: str | None = None


class Model(Reply):
    """A model that can be named in a request."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str


class ModelList(Reply):
    """Every model at hand."""

    object: Literal["list"]
    data: list[Model]


class Usage(Reply):
    """Tokens of an answer."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class ChatCompletion(Reply):
    """An answer; a stream sends `chat.completion.chunk` objects and then `[DONE]`."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[dict[str, Any]]
    usage: Usage | None = None


class Completion(Reply):
    """A continuation of a text."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[dict[str, Any]]
    usage: Usage | None = None


class Session(Reply):
    """Who is asking, and what this server is."""

    version: str
    authenticated: bool
    languages: list[str]
    csrf: str | None = None
    home: str | None = None


class Done(Reply):
    """It was done."""

    done: bool


class Machine(Reply):
    """Devices, memory, disk and queue of this machine."""

    devices: list[dict[str, Any]]
    host: dict[str, Any]
    disk: dict[str, Any]
    queue: dict[str, Any]


class JobView(Reply):
    """A job as the page shows it in lists."""

    id: str
    name: str
    state: str
    model: str | None
    priority: int
    created_at: float
    started_at: float | None
    finished_at: float | None


class JobViewList(Reply):
    """A page of jobs, newest first."""

    jobs: list[JobView]
    has_more: bool


class JobDetail(Reply):
    """Everything about one job but its figures."""

    job: JobView
    settings: dict[str, Any]
    provenance: dict[str, Any]
    progress: dict[str, Any]


class Metrics(Reply):
    """Figures of a run, thinned; every series is as long as its x."""

    steps: list[int]
    series: dict[str, list[float | None]]
    evaluations: list[dict[str, Any]]
    markers: list[dict[str, Any]]
    monitor: dict[str, Any]
    samples: list[dict[str, Any]]
    total_points: int


class Logs(Reply):
    """A stretch of what the process of a job printed; `next` is where to go on."""

    text: str
    next: int = Field(ge=0)
    size: int = Field(ge=0)


class Anything(Reply):
    """An object."""
