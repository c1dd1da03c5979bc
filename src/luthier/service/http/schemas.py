"""Shapes of replies: what the routes return, as types, and what the OpenAPI document shows.

A reply may grow; what is named here stays.  The type checker holds the code to them, tests the
replies on the wire.
"""

from collections.abc import Mapping, Sequence
from typing import Generic, Literal, NotRequired, TypeVar

from typing_extensions import TypedDict

Free = Mapping[str, object]
"""An object whose names depend on the run: settings, figures, what a helper found."""

WireState = Literal[
    "validating_files", "queued", "running", "pausing", "paused", "succeeded", "failed", "cancelled"
]
Level = Literal["info", "warn", "error"]


class Identified(TypedDict):
    """What can stand in a list."""

    id: str


Item = TypeVar("Item", bound=Identified)


class ListPage(TypedDict, Generic[Item]):
    """A page of any list, with the ids of its ends where it has any."""

    object: Literal["list"]
    data: Sequence[Item]
    has_more: bool
    first_id: NotRequired[str | None]
    last_id: NotRequired[str | None]


class ErrorBody(TypedDict):
    """A refusal: what (with the value), why (with the rule), fix (to paste)."""

    message: str
    type: str
    param: str | None
    code: str | None
    why: NotRequired[str | None]
    fix: NotRequired[str | None]


class ErrorEnvelope(TypedDict):
    """How every error is told."""

    error: ErrorBody


class Deleted(TypedDict):
    """Something is gone."""

    id: str
    object: str
    deleted: bool


class FileObject(TypedDict):
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
    luthier: NotRequired[Free]


class FileList(TypedDict):
    """A page of files."""

    object: Literal["list"]
    data: Sequence[FileObject]
    has_more: bool
    first_id: NotRequired[str]
    last_id: NotRequired[str]


class UploadObject(TypedDict):
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


class UploadPart(TypedDict):
    """A stretch of an upload that has arrived."""

    id: str
    object: Literal["upload.part"]
    created_at: int
    upload_id: str


class JobError(TypedDict):
    """Why a job failed."""

    code: str
    message: str
    param: str | None
    why: NotRequired[str]
    fix: NotRequired[str]


class JobDetails(TypedDict):
    """What OpenAI's schema lacks of a job."""

    name: str
    state: str
    priority: int
    attempts: int
    retries: int
    devices: Sequence[str]
    run: str
    settings: Free
    provenance: Mapping[str, str]


class FineTuningJob(TypedDict):
    """A fine-tuning job; `luthier` has its settings, resolved, with where each came from."""

    id: str
    object: Literal["fine_tuning.job"]
    created_at: int
    finished_at: int | None
    model: str
    fine_tuned_model: str | None
    organization_id: str
    status: WireState
    training_file: str
    validation_file: str | None
    hyperparameters: Free
    method: Free
    seed: int
    result_files: Sequence[str]
    trained_tokens: int | None
    estimated_finish: int | None
    error: JobError | None
    integrations: Sequence[Free] | None
    metadata: Mapping[str, str] | None
    luthier: JobDetails


class FineTuningJobList(TypedDict):
    """A page of jobs, newest first."""

    object: Literal["list"]
    data: Sequence[FineTuningJob]
    has_more: bool
    first_id: NotRequired[str]
    last_id: NotRequired[str]


class JobEvent(TypedDict):
    """Something that happened in a job; metrics are in `data`."""

    id: str
    object: Literal["fine_tuning.job.event"]
    created_at: int
    level: Level
    message: str
    type: Literal["message", "metrics"]
    data: Free


class JobEventList(TypedDict):
    """A page of events, newest first."""

    object: Literal["list"]
    data: Sequence[JobEvent]
    has_more: bool
    first_id: NotRequired[str]
    last_id: NotRequired[str]


class Checkpoint(TypedDict):
    """A saved state of a job."""

    id: str
    object: Literal["fine_tuning.job.checkpoint"]
    created_at: int
    fine_tuned_model_checkpoint: str
    fine_tuning_job_id: str
    step_number: int
    metrics: Mapping[str, float]
    luthier: NotRequired[Free]


class CheckpointList(TypedDict):
    """A page of checkpoints, newest first."""

    object: Literal["list"]
    data: Sequence[Checkpoint]
    has_more: bool
    first_id: NotRequired[str | None]
    last_id: NotRequired[str | None]


class ModelObject(TypedDict):
    """A model that can be named in a request."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    luthier: NotRequired[Free]


class ModelList(TypedDict):
    """Every model at hand."""

    object: Literal["list"]
    data: Sequence[ModelObject]


class Usage(TypedDict):
    """Tokens of an answer."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    luthier: NotRequired[Free]


class ChatCompletion(TypedDict):
    """An answer; a stream sends `chat.completion.chunk` objects and then `[DONE]`."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: Sequence[Free]
    usage: NotRequired[Usage | None]
    system_fingerprint: NotRequired[str | None]


class Completion(TypedDict):
    """A continuation of a text."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: Sequence[Free]
    usage: NotRequired[Usage | None]
    system_fingerprint: NotRequired[str | None]


class Session(TypedDict):
    """Who is asking, and what this server is."""

    version: str
    authenticated: bool
    languages: Sequence[str]
    csrf: NotRequired[str | None]
    home: NotRequired[str | None]


class Anything(TypedDict):
    """An object."""
