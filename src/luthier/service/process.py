"""Processes of jobs: started apart from the server, found again after it, and really gone at the end.

Each attempt is a session of its own with `LUTHIER_JOB` in its environment.  Killing the session
alone is not enough: torch's launcher gives every rank one of its own.
"""

import contextlib
import json
import os
import selectors
import signal
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Protocol

import psutil

from luthier import children
from luthier.bounded import decode_ours
from luthier.locks import Owner, read_owner
from luthier.process_messages import WarmMessage, WarmRequest
from luthier.service.records import Job

MARK = "LUTHIER_JOB"
GONE_S = 5.0


def environment(
    home: Path, job: str, devices: Sequence[str], reach: Collection[Path] = ()
) -> dict[str, str]:
    """What the process of a job may see of the server's environment, and its devices."""
    cuda = [device.removeprefix("cuda:") for device in devices if device.startswith("cuda:")]
    ours = {
        "LUTHIER_HOME": str(home),
        "CUDA_VISIBLE_DEVICES": ",".join(cuda),
        MARK: job,
    }
    return {**children.training_environment(reach), **ours}


@dataclass
class Launched:
    """What is known of a start: the process once there is one, its exit status once it has ended."""

    job: str
    attempt: int
    owner: Owner | None = None
    status: int | None = None
    refused: bool = False  # nothing was started, and nothing will be


class Starter(Protocol):
    """How processes are started."""

    def start(
        self, run: Path, job: str, attempt: int, env: Mapping[str, str], log: Path
    ) -> Launched: ...
    def poll(self) -> None: ...
    def close(self) -> None: ...


class ColdStart:
    """Starts a fresh interpreter for each attempt."""

    def __init__(self) -> None:
        self._popen: dict[int, tuple[children.Child, Launched]] = {}

    def start(
        self, run: Path, job: str, attempt: int, env: Mapping[str, str], log: Path
    ) -> Launched:
        """Start an attempt; returns at once."""
        with log.open("ab") as output:
            process = children.start(
                "luthier.worker.job",
                str(run),
                str(attempt),
                environment=env,
                outlives=True,
                folder=run,
                stdout=output.fileno(),
                stderr=output.fileno(),
            )
        launched = Launched(job, attempt, Owner.of(process.pid))
        self._popen[process.pid] = process, launched
        return launched

    def poll(self) -> None:
        """Notice what has ended."""
        for pid, (process, launched) in [*self._popen.items()]:
            if (status := process.poll()) is not None:
                launched.status = status
                del self._popen[pid]

    def close(self) -> None:
        """Stop watching; the processes go on."""
        for process, _ in self._popen.values():
            process.returncode = process.poll() or 0  # not ours to wait for: no warning at its end
        self._popen.clear()


@dataclass
class WarmStart:
    """Starts attempts from `luthier.worker.warm`, which has the libraries loaded.

    Args:
        log: Where the warm process writes what goes wrong.
        idle_s: Seconds without a job after which it is ended, for the memory it holds.
    """

    log: Path
    idle_s: float = 120.0
    _process: children.Child | None = None
    _waiting: dict[tuple[str, int], Launched] = field(default_factory=dict)
    _running: dict[int, Launched] = field(default_factory=dict)
    _text: bytes = b""
    _used: float = 0.0

    def start(
        self, run: Path, job: str, attempt: int, env: Mapping[str, str], log: Path
    ) -> Launched:
        """Ask for an attempt; the answer comes with a later `poll`."""
        launched = Launched(job, attempt)
        request: WarmRequest = {
            "run": str(run), "job": job, "attempt": attempt, "environment": dict(env), "log": str(log)
        }  # fmt: skip
        self._waiting[job, attempt] = launched
        self._used = time.monotonic()
        try:
            pipe = self._pipe(env)
            pipe.write(json.dumps(request).encode() + b"\n")
            pipe.flush()
        except BrokenPipeError:
            self._gone()
        return launched

    def _pipe(self, env: Mapping[str, str]) -> IO[bytes]:
        if self._process is None or self._process.poll() is not None:
            self._gone(keep=True)
            clean = {name: value for name, value in env.items() if name != MARK}
            self.log.parent.mkdir(parents=True, exist_ok=True)
            with self.log.open("wb") as output:
                self._process = children.start(
                    "luthier.worker.warm",
                    environment=clean,
                    stdin=children.PIPE,
                    stdout=children.PIPE,
                    stderr=output.fileno(),
                )
        assert self._process.stdin is not None
        return self._process.stdin

    def poll(self) -> None:
        """Take in what the warm process says."""
        process = self._process
        if process is None:
            return
        assert process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            while selector.select(0):
                block = os.read(process.stdout.fileno(), 65536)
                if not block:
                    self._gone()
                    return
                *lines, self._text = (self._text + block).split(b"\n")
                for line in lines:
                    self._take(decode_ours(line))
        idle = time.monotonic() - self._used
        if not self._waiting and not self._running and idle > self.idle_s:
            self._gone()

    def _take(self, message: WarmMessage) -> None:
        if "started" in message:
            pid = message["started"]
            launched = self._waiting.pop((message["job"], message["attempt"]))
            launched.owner = Owner.of(pid)
            self._running[pid] = launched
        elif (ended := message.get("ended")) in self._running:
            self._running.pop(ended).status = message["status"]
            self._used = time.monotonic()

    def _gone(self, *, keep: bool = False) -> None:
        """The warm process is no more: what waits for it was not started, what runs goes on."""
        if self._process is not None:
            children.close_pipes(self._process)  # it ends by itself, its last start done
            with contextlib.suppress(children.TooLateError):
                self._process.wait(0.5)
            children.end(self._process)
            self._process = None
        self._text = b""
        self._running.clear()
        if not keep:
            for launched in self._waiting.values():
                launched.refused = True
            self._waiting.clear()

    @property
    def pid(self) -> int | None:
        """Of the warm process, if there is one."""
        return self._process.pid if self._process is not None else None

    def close(self) -> None:
        """End the warm process; what it started goes on."""
        self._gone()


def processes_of(job: str, worker: Owner | None) -> list[psutil.Process]:
    """Every live process of a job: descendants, members of its session, bearers of its mark.

    While the worker lives its descendants are found whatever they did to session and environment.
    """
    found: dict[int, psutil.Process] = {}
    if worker is not None and worker.alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            top = psutil.Process(worker.pid)
            family = [top, *top.children(recursive=True)]
            found = {process.pid: process for process in family if _lives(process)}
    mark = f"{MARK}={job}".encode()
    led = worker.pid if worker is not None and worker.number_is_its_own else None
    for process in psutil.process_iter():
        if process.pid in found or process.pid == os.getpid():
            continue
        session = led is not None and _session(process.pid) == led
        if (session or mark in _marks(process.pid)) and _lives(process):
            found[process.pid] = process
    return [*found.values()]


def worker_of(job: Job) -> Owner | None:
    """The live process of a job whose process nobody wrote down."""
    owner = read_owner(job.run_path / "worker.lock")
    if owner is not None and owner.alive:
        return owner
    marked = processes_of(job.id, None)
    oldest = min(marked, key=lambda process: process.create_time(), default=None)
    return Owner.of(oldest.pid) if oldest is not None else None


def _session(pid: int) -> int:
    try:
        return os.getsid(pid)
    except (ProcessLookupError, PermissionError):
        return -2


def _marks(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:  # gone, or of another user
        return []


def end(processes: Iterable[psutil.Process]) -> list[int]:
    """Kill, and wait until each is gone; the ids of those that are not after some seconds."""
    left = [*processes]
    for process in left:
        with contextlib.suppress(psutil.NoSuchProcess):  # psutil compares the moment of its start
            process.kill()
    deadline = time.monotonic() + GONE_S
    while left := [process for process in left if _lives(process)]:
        if time.monotonic() > deadline:
            break
        time.sleep(0.01)
    return [process.pid for process in left]


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def end_job(job: str, worker: Owner | None) -> list[int]:
    """End every process of a job, also what it starts meanwhile; ids of those that would not go."""
    for _ in range(5):
        found = processes_of(job, worker)
        if not found:
            return []
        left = end(found)
        if left:
            return left
    return [process.pid for process in processes_of(job, worker)]


def ask_to_stop(worker: Owner) -> None:
    """SIGTERM to the process itself: it saves, and tells its ranks."""
    if worker.alive:
        with contextlib.suppress(ProcessLookupError):
            os.kill(worker.pid, signal.SIGTERM)
