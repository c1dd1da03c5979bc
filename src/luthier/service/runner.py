"""The supervisor: gives waiting jobs their devices, watches those at work, and settles how they ended.

Everything it knows is in the database and in the run directories, so that another server can take
over at any instant.  A job's process is known by id, moment of start and boot; how an attempt ended
is read from its events, and only where they say nothing from its exit status.
"""

import sys
import threading
import time
import traceback
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from luthier.config.launch_file import Launch, Wishes
from luthier.config.read import Resolved
from luthier.durable import write_atomic
from luthier.errors import DeviceError, DiskFullError, LuthierError
from luthier.locks import read_owner
from luthier.runs import RunDirectory
from luthier.runs.place import slug
from luthier.service import outcome
from luthier.service.devices import holder, machine_devices
from luthier.service.follow import Follow, cap_log, size_of
from luthier.service.job_table import JobColumns
from luthier.service.jobs import Jobs
from luthier.service.process import (
    ColdStart,
    Launched,
    Starter,
    WarmStart,
    ask_to_stop,
    end_job,
    environment,
    worker_of,
)
from luthier.service.records import Job
from luthier.service.states import State

POLL_S = 0.2
CANCEL_GRACE_S, PAUSE_GRACE_S, EXIT_GRACE_S, START_GRACE_S = 10.0, 600.0, 20.0, 120.0
SILENT_S = 60.0
SAMPLES = 3  # held-out prompts that a job answers at every evaluation
_STATUS_GRACE_S = 1.0
_WAIT_S = 1.0  # before a job whose device or disk was taken is tried again


@dataclass
class Watch:
    """What this server remembers of an attempt; nothing that another could not find out."""

    follow: Follow
    launched: Launched | None = None
    since: float = field(default_factory=time.monotonic)
    asked: str | None = None
    asked_at: float = 0.0
    ended_at: float | None = None
    gone_at: float | None = None
    silent: bool = False


class Runner:
    """One thread that carries out what the jobs say.

    Args:
        devices: What may be leased; found on the machine if None.
        make_way: Asked to give a device back that no job has, such as by the chat process.
        warm: Start attempts from a process that has torch loaded; None for where no GPU is used.
            One that is handed in is used, and left open.
        cancel_grace_s: Seconds between asking and killing, for a cancel; `pause_grace_s`
            for a pause, whose checkpoint is waited for.
        silent_s: Seconds without a line of the monitor after which the history says so.
        reach: Folders that jobs open; none is no limit.

    Attributes:
        failure: Why the last round could not be done, if so; it is tried again.
    """

    def __init__(
        self,
        jobs: Jobs,
        *,
        devices: list[str] | None = None,
        make_way: Callable[[], bool] = lambda: True,
        warm: bool | WarmStart | None = None,
        cancel_grace_s: float = CANCEL_GRACE_S,
        pause_grace_s: float = PAUSE_GRACE_S,
        exit_grace_s: float = EXIT_GRACE_S,
        silent_s: float = SILENT_S,
        reach: Collection[Path] = (),
    ) -> None:
        self.jobs, self.home = jobs, jobs.home
        self._devices, self._make_way = devices, make_way
        self._warm = True if isinstance(warm, WarmStart) else warm
        self._grace = {"cancel": cancel_grace_s, "pause": pause_grace_s}
        self._exit_grace_s, self._silent_s, self._reach = exit_grace_s, silent_s, reach
        self._cold = ColdStart()
        self._warm_start = warm if isinstance(warm, WarmStart) else None
        self._owned = self._warm_start is None
        self._watches: dict[str, Watch] = {}
        self._not_before: dict[str, float] = {}
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self.failure: str | None = None

    @property
    def devices(self) -> list[str]:
        """What may be leased."""
        if self._devices is None:
            self._devices = machine_devices()
        return self._devices

    def start(self) -> None:
        """Supervise from a thread of its own."""
        self._thread = threading.Thread(target=self._work, name="runner", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop supervising.  Jobs at work go on, and are found again by the next server."""
        self._stop.set()
        self.jobs.table.changed.set()
        if self._thread is not None:
            self._thread.join()
        self._cold.close()
        if self._warm_start is not None and self._owned:
            self._warm_start.close()

    @property
    def alive(self) -> bool:
        """Whether the thread works."""
        return self._thread is not None and self._thread.is_alive()

    def _work(self) -> None:
        while not self._stop.is_set():
            self.jobs.table.changed.clear()
            try:
                self.tick()
                self.failure = None
            except Exception as error:  # noqa: BLE001 - a runner that ends leaves every job alone
                if self.failure != str(error):
                    traceback.print_exc(file=sys.stderr)
                self.failure = str(error)
            self.jobs.table.changed.wait(POLL_S)

    def tick(self) -> None:
        """One round: take in what has happened, then start what can be started.

        Raises:
            LuthierError: What went wrong with the first job of which it could not be done; the
                others have been seen to.
        """
        self._poll_starters()
        active = self.jobs.table.active()
        troubles: list[Exception] = []
        for job in active:
            try:
                self._supervise(job)
            except (LuthierError, OSError, psutil.Error) as error:
                troubles.append(error)
        for id in self._watches.keys() - {job.id for job in active}:
            del self._watches[id]
        self._start_waiting()
        if troubles:
            raise troubles[0]

    def _poll_starters(self) -> None:
        self._cold.poll()
        if self._warm_start is not None:
            self._warm_start.poll()

    # Watching.

    def _supervise(self, job: Job) -> None:
        watch = self._watches.get(job.id)
        if watch is None:
            follow = Follow(job.run_path / "events.jsonl", job.events_from)
            watch = self._watches[job.id] = Watch(follow)
        watch.follow.poll()
        if (job.run_path / "stderr.log").exists():
            cap_log(job.run_path / "stderr.log")
        if job.worker is None:
            found = self._find(job, watch)
            if found is None:
                return
            job = found
        job = self._show_progress(job, watch)
        if job.worker is None or not job.worker.alive:
            self._settle(job, watch)
        elif watch.follow.ending is not None:
            self._end_late(job, watch)
        elif job.wish is not None:
            self._ask(job, watch)
        else:
            self._listen(job, watch)

    def _listen(self, job: Job, watch: Watch) -> None:
        """Say so in the history when the monitor of a live process has been silent for long.

        It is not ended for that: a process that was suspended, or waits for a disk, comes back.
        """
        age = heartbeat_age_s(job)
        silent = age is not None and age > self._silent_s
        if silent != watch.silent:
            watch.silent = silent
            said = f"no sign of life for {age:.0f} s" if silent else "there is a sign of life again"
            self.jobs.table.remark(job.id, said)

    def _find(self, job: Job, watch: Watch) -> Job | None:
        """The job with its process; None while it is being started, itself where there is none."""
        launched = watch.launched
        if launched is not None and launched.owner is not None:
            return self.jobs.table.note(job.id, worker=launched.owner)
        recent = time.monotonic() - watch.since < START_GRACE_S
        if launched is not None and launched.status is None and not launched.refused and recent:
            return None
        owner = worker_of(job)
        return self.jobs.table.note(job.id, worker=owner) if owner is not None else job

    def _show_progress(self, job: Job, watch: Watch) -> Job:
        now: JobColumns = {"started_at": time.time()} if job.started_at is None else {}
        if job.state == "starting" and watch.follow.started:
            job = self.jobs.table.move(job.id, "running", reason="training has begun", **now)
        if job.state == "running" and watch.follow.saving:
            job = self.jobs.table.move(job.id, "saving", reason="the last step is done")
        return job

    def _ask(self, job: Job, watch: Watch) -> None:
        """Carry out a wish: ask first, kill when the time is up."""
        assert job.worker is not None
        assert job.wish is not None
        if job.wish == "stop_early":
            if watch.asked != job.wish:
                write_atomic(RunDirectory(job.run_path).end_file, "")
                watch.asked = job.wish
            return
        if watch.asked != job.wish:
            ask_to_stop(job.worker)
            watch.asked, watch.asked_at = job.wish, time.monotonic()
            state: State = "pausing" if job.wish == "pause" else "saving"
            if job.state != state:
                self.jobs.table.move(job.id, state, reason=f"told to stop, to {job.wish}")
        elif time.monotonic() - watch.asked_at > self._grace[job.wish]:
            end_job(job.id, job.worker)

    def _end_late(self, job: Job, watch: Watch) -> None:
        """End a process that has said its last word and stays."""
        watch.ended_at = watch.ended_at or time.monotonic()
        if time.monotonic() - watch.ended_at > self._exit_grace_s:
            end_job(job.id, job.worker)

    def _settle(self, job: Job, watch: Watch) -> None:
        """Its process is gone: say how the attempt ended."""
        left = end_job(job.id, job.worker)
        if left:
            self.failure = f"{job.id}: processes {left} cannot be ended"
            return
        status = self._status(watch)
        if status is None and self._is_coming(watch):
            return
        watch.follow.poll()  # what was written between the last look and the end
        job = self._show_progress(job, watch)
        if watch.launched is not None and watch.launched.refused:
            self._warm = False  # a fresh interpreter says more about what is wrong
        how = outcome.of(job, watch.follow, status)
        if how.wait:
            self._not_before[job.id] = time.monotonic() + _WAIT_S
        values = how.values.copy()
        if how.state == "finished":
            values["model"] = result_name(job)
        self.jobs.table.move(job.id, how.state, reason=how.reason, **values)
        self._watches.pop(job.id, None)

    def _status(self, watch: Watch) -> int | None:
        """The exit status, where this server started the process."""
        launched = watch.launched
        if launched is not None and launched.status is None:
            self._poll_starters()
        return launched.status if launched is not None else None

    def _is_coming(self, watch: Watch) -> bool:
        """Whether the status of a process that is gone will be known in a moment."""
        launched = watch.launched
        if launched is None or launched.owner is None or launched.refused:
            return False
        watch.gone_at = watch.gone_at or time.monotonic()
        return time.monotonic() - watch.gone_at < _STATUS_GRACE_S

    # Starting.

    def _start_waiting(self) -> None:
        waiting = self.jobs.table.waiting()
        if not waiting:
            return
        taken = {device for job in self.jobs.table.active() for device in job.devices}
        free = [name for name in self.devices if name not in taken and holder(name) is None]
        foreign = [name for name in self.devices if name not in {*taken, *free}]
        for job in waiting:
            if self._not_before.get(job.id, 0.0) > time.monotonic() or _worked_on_by_hand(job):
                continue
            wanted = 1 if self.devices == ["cpu"] else job.num_devices
            if wanted > len(self.devices):
                self.jobs.table.move(
                    job.id, "failed", reason="too few devices", error=self._too_few(job)
                )
                continue
            if wanted > len(free):  # the first in line waits, and nobody overtakes it
                if wanted <= len(free) + len(foreign):
                    self._make_way()
                return
            self._start(job, free[:wanted])
            del free[:wanted]

    def _too_few(self, job: Job) -> dict[str, str]:
        return DeviceError(
            f"devices: {job.num_devices} on a machine with {len(self.devices)}",
            why="each training process needs one of its own",
            fix=f"--devices {len(self.devices)}",
        ).as_dict()

    def _start(self, job: Job, devices: list[str]) -> None:
        try:
            run = RunDirectory.create(job.run_path, resume=True)
            events_from = size_of(run.events_file)
        except (DiskFullError, OSError) as error:
            self.failure = str(error)
            self._not_before[job.id] = time.monotonic() + _WAIT_S
            return
        except LuthierError as error:
            reason = "no run directory could be made"
            self.jobs.table.move(job.id, "failed", reason=reason, error=error.as_dict())
            return
        attempt = job.attempts + 1
        job = self.jobs.table.move(
            job.id,
            "starting",
            reason=f"on {', '.join(devices)}",
            attempts=attempt,
            devices=devices,
            events_from=events_from,
        )
        # From here on an older attempt that was never heard of does nothing.
        self._launch(job).write(run.path)
        env = environment(self.home, job.id, devices, self._reach)
        log = run.path / "stderr.log"
        launched = self._starter(devices).start(run.path, job.id, attempt, env, log)
        watch = Watch(Follow(run.events_file, events_from), launched)
        self._watches[job.id] = watch
        if launched.owner is not None:
            self.jobs.table.note(job.id, worker=launched.owner)

    def _launch(self, job: Job) -> Launch:
        rows = self.jobs.store.read("SELECT resolved FROM jobs WHERE id = ?", (job.id,))
        saved = outcome.from_json(rows[0]["resolved"])
        where = (str(job.run_path), "where the service keeps its runs")
        again = (True, "the service goes on where an attempt before this one stopped")
        resolved = Resolved.from_dict(saved).fill(output_dir=where, resume=again)
        return Launch(
            resolved.with_text(str(saved["config"])), Wishes(samples=SAMPLES), job.attempts
        )

    def _starter(self, devices: list[str]) -> Starter:
        warm = devices == ["cpu"] if self._warm is None else self._warm
        if not warm:
            return self._cold
        if self._warm_start is None:
            self._warm_start = WarmStart(self.jobs.store.folder / "warm.log")
        return self._warm_start


def heartbeat_age_s(job: Job) -> float | None:
    """Seconds since the process of a job last wrote to `monitor.jsonl`; None before it has."""
    try:
        return max(0.0, time.time() - (job.run_path / "monitor.jsonl").stat().st_mtime)
    except FileNotFoundError:
        return None


def _worked_on_by_hand(job: Job) -> bool:
    """Whether a command line works in the job's run directory just now."""
    owner = read_owner(job.run_path / "run.lock")
    return owner is not None and owner.alive


def result_name(job: Job) -> str:
    """The name of a finished job's model: `ft:<base>:local:<suffix>:<end of the id>`."""
    base = str(job.settings["model"])
    base = slug(base) if base.startswith(("/", ".", "~")) else base
    return f"ft:{base}:local:{slug(job.suffix)}:{job.id[-8:]}"
