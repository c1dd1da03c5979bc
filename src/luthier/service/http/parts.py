"""What the routes stand on; one object for a server, reached through the request."""

import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from starlette.requests import Request

from luthier.errors import LuthierError
from luthier.service.chat_processes import ChatProcesses
from luthier.service.files import Files
from luthier.service.helper_processes import Helpers
from luthier.service.http.door.credentials import Credentials
from luthier.service.http.door.envelope import ApiError, not_found
from luthier.service.http.door.guard import ServingState
from luthier.service.http.door.limits import Gate, Limits
from luthier.service.http.live.history import Histories, History
from luthier.service.http.live.streams import Hub
from luthier.service.jobs import Jobs
from luthier.service.records import Job

JOB_ID = re.compile(r"ftjob-[0-9A-Za-z-]{1,80}")
FILE_ID = re.compile(r"file-[0-9A-Za-z]{1,80}")


@dataclass
class Parts:
    """The parts of one server.

    Args:
        home: Folder of luthier's own files.
        roots: Folders that jobs may name by path, besides `home`.
    """

    home: Path
    jobs: Jobs
    files: Files
    helpers: Helpers
    chats: ChatProcesses
    credentials: Credentials
    limits: Limits
    roots: tuple[Path, ...] = ()
    state: ServingState = field(default_factory=ServingState)
    histories: Histories = field(default_factory=Histories)
    results_lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.hub = Hub(self.limits.streams)
        self.uploading = Gate("uploads", self.limits.uploads)
        self.generating = Gate("answers", self.limits.generations)
        self.helping = Gate("checks", self.limits.helpers)

    def job(self, id: str) -> Job:
        """The job of an id; a forged one reads like an unknown one."""
        if not JOB_ID.fullmatch(id):
            raise not_found("job", id, param="fine_tuning_job_id")
        return self.jobs.get(id)

    def history(self, job: Job) -> History:
        """What the run of a job has written, up to now."""
        return self.histories.of(job.run_path).update()

    def help(
        self, task: str, request: Mapping[str, object], *, timeout_s: float = 60.0
    ) -> Mapping[str, object]:
        """The answer of a helper process; blocks.

        Raises:
            ApiError: 503: too many ask at once.
        """
        with self.helping.held():
            try:
                return self.helpers.call(task, request, timeout_s=timeout_s)
            except LuthierError as error:
                said = (self.without_paths(text) for text in (error.what, error.why, error.fix))
                what, why, fix = said
                raise type(error)(what, why=why, fix=fix) from error

    def without_paths(self, text: str) -> str:
        """The text with the id of an uploaded file where the server keeps it."""
        return re.sub(
            rf"{re.escape(str(self.files.folder))}/(file-[0-9A-Za-z]+)[.\w]*", r"\1", text
        )


def parts(request: Request) -> Parts:
    """The parts of the server that got this request."""
    found = request.app.state.parts
    assert isinstance(found, Parts)
    return found


def limited(value: int, *, low: int, high: int, param: str = "limit") -> int:
    """A page size within its bounds.

    Raises:
        ApiError: 400: outside.
    """
    if not low <= value <= high:
        raise ApiError(
            400,
            f"{param}={value} is out of range",
            code="invalid_value",
            param=param,
            why=f"it is {low} to {high:,}",
        )
    return value
