"""Shapes of what the page asks for; see `schemas` for the rest."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

from luthier.service.http.live.history import RunFigures
from luthier.service.http.schemas import Free


class DoneReply(TypedDict):
    """It was done."""

    done: bool


class DeviceView(TypedDict):
    """A GPU, or the processor; None where the driver does not tell."""

    id: str
    name: str
    kind: Literal["cuda", "cpu"]
    memory_bytes: int
    used_bytes: int
    utilisation: float | None
    celsius: float | None
    watts: float | None
    held_by: NotRequired[str | None]


class HostView(TypedDict):
    """Memory and processor."""

    memory_bytes: int
    used_bytes: int
    cpu_percent: float
    cores: int


class DiskView(TypedDict):
    """The disk of the data folder."""

    free_bytes: int
    total_bytes: int
    path: str


class QueueView(TypedDict):
    """How many jobs are at work and how many wait."""

    running: int
    waiting: int


class MachineView(TypedDict):
    """Devices, memory, disk and queue of this machine."""

    devices: Sequence[DeviceView]
    host: HostView
    disk: DiskView
    queue: QueueView


class JobView(TypedDict):
    """A job as the page shows it in lists; `model` is the name of its result."""

    id: str
    name: str
    state: str
    wish: str | None
    priority: int
    model: str | None
    base: str
    method: object
    objective: object
    devices: Sequence[str]
    attempts: int
    retries: int
    error: Mapping[str, str] | None
    created_at: float
    queued_at: float | None
    started_at: float | None
    finished_at: float | None
    managed: bool
    run: str
    metadata: Mapping[str, str]


class JobViewList(TypedDict):
    """A page of jobs, newest first."""

    jobs: Sequence[JobView]
    has_more: bool


class HistoryLine(TypedDict):
    """A change of a job's state; `before` is null for the first."""

    number: int
    job: str
    time: float
    before: str | None
    after: str
    attempt: int
    reason: str


class Progress(TypedDict):
    """How far a run is: the figures of its last step, null before there is one."""

    step: object
    total: object
    steps: object
    loss: object
    learning_rate: object
    grad_norm: object
    tokens_per_s: object
    seconds: object
    eta_s: object
    elapsed_s: object
    metrics: object
    time: object
    trained_tokens: int | None
    reference: Free | None


class VerdictView(TypedDict):
    """What somebody with experience would say about the course of a run."""

    code: str
    severity: Literal["note", "warning"]
    params: Free
    text: str
    action: str


class JobDetail(TypedDict):
    """Everything about one job but its figures.

    `settings` are those of the run once it has planned (`planned`), `given` what was asked for;
    `plan` and `data` are what the run wrote about them, `best` the evaluation with the best loss.
    """

    job: JobView
    settings: Free
    provenance: Mapping[str, str]
    planned: bool
    given: Free
    files: Sequence[str]
    plan: Free | None
    data: Free | None
    progress: Progress
    best: Free | None
    finished: Free | None
    history: Sequence[HistoryLine]
    warnings: Sequence[Free]
    verdicts: Sequence[VerdictView]


class PredictedPeak(TypedDict):
    """What the plan said of the memory."""

    peak_bytes: object


class Metrics(RunFigures):
    """Figures of a run, thinned; every series is as long as its x."""

    predicted: PredictedPeak


class Logs(TypedDict):
    """A stretch of what the process of a job printed; `next` is where to go on."""

    text: str
    next: Annotated[int, Field(ge=0)]
    size: Annotated[int, Field(ge=0)]


class RunFile(TypedDict):
    """A file of a run that can be downloaded; the size of what is made on the way is null."""

    path: str
    bytes: int | None


class RunFiles(TypedDict):
    """Everything of a run that can be downloaded."""

    files: Sequence[RunFile]


class SettingView(TypedDict):
    """One setting, for a form."""

    name: str
    type: str
    choices: Sequence[str]
    default: object
    required: bool
    help: str
    group: str
    simple: bool
    bounds: Mapping[str, float]


class SettingViewList(TypedDict):
    """Every setting in its order."""

    settings: Sequence[SettingView]
