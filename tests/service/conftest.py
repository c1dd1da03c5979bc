"""A queue with real workers, started from one warm process for all tests of a worker."""

import itertools
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from luthier.service.jobs import Jobs
from luthier.service.process import WarmStart
from luthier.service.records import Job
from luthier.service.runner import Runner
from luthier.service.store import Store

PATIENCE_S = 90.0
ROW = b'{"messages":[{"role":"user","content":"A cat, please."},{"role":"assistant","content":"aisle 4"}]}\n'
QUICK = {
    "model": "starter",
    "max_steps": 2,
    "per_device_train_batch_size": 2,
    "lora_dim": 2,
    "seq_length": 128,
    "logging_steps": 1,
}
LONG = {**QUICK, "max_steps": 100_000, "save_steps": 5, "save_total_limit": 1}


def wait_for(what: Any, *, seconds: float = PATIENCE_S) -> Any:
    """The first true value of a function."""
    deadline = time.monotonic() + seconds
    while not (value := what()):
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.02)
    return value


@pytest.fixture(scope="session")
def warm(tmp_path_factory):
    start = WarmStart(tmp_path_factory.mktemp("warm") / "warm.log", idle_s=600)
    yield start
    start.close()


@dataclass
class Queue:
    """A server's queue, that can be taken over by another one as after a kill."""

    warm: WarmStart
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.open()
        self.file = self.jobs.files.add([ROW * 8], "rows.jsonl").id

    def open(self) -> None:
        self.store = Store()
        self.jobs = Jobs(self.store)
        self.runner = Runner(self.jobs, **{"devices": ["cpu"], "warm": self.warm, **self.options})

    def close(self) -> None:
        self.runner.close()
        self.store.close()

    def reopen(self) -> None:
        """Another server over the same folder, which knows only what is on the disk."""
        self.close()
        self.open()
        self.runner.start()

    def add(self, settings: dict[str, Any] = QUICK, **more: Any) -> str:
        return self.jobs.create({**settings, "dataset": self.file, **more}).id

    def wait(self, id: str, *states: str) -> Job:
        return wait_for(lambda: (job := self.jobs.get(id)).state in states and job)

    def wait_step(self, id: str, step: int) -> None:
        path = self.jobs.get(id).run_path / "events.jsonl"
        mark = f'"step": {step},'
        wait_for(lambda: path.exists() and mark in path.read_text("utf-8"))

    def states(self, id: str) -> list[str]:
        """The states it went through, without repetition."""
        return [
            state for state, _ in itertools.groupby(e.after for e in self.jobs.table.history(id))
        ]


@pytest.fixture
def queue(luthier_home, warm):
    queue = Queue(warm)
    queue.runner.start()
    yield queue
    for job in queue.jobs.table.active():
        queue.jobs.cancel(job.id)
        queue.wait(job.id, "cancelled", "finished", "failed")
    queue.close()


def marked(id: str) -> list[int]:
    """Processes of a job, found by the system's own table and not by the runner's code."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            text = (folder / "environ").read_bytes()
            state = (folder / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if f"LUTHIER_JOB={id}".encode() in text.split(b"\0") and state != "Z":
            found.append(int(folder.name))
    return found


def in_session(session: int) -> list[int]:
    """Live processes of a session."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(words[3]) == session and words[0] != "Z" and int(folder.name) != os.getpid():
            found.append(int(folder.name))
    return found
