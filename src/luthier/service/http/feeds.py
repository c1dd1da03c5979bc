"""What is told live about a job and about the machine: at most twice a second."""

from collections.abc import Callable

from luthier.errors import JobNotFoundError, LuthierError
from luthier.json_values import JsonObject, object_of
from luthier.service.http import schemas
from luthier.service.http.live.history import History
from luthier.service.http.live.streams import NAMELESS, Feed
from luthier.service.http.machine import machine
from luthier.service.http.models import shown_model
from luthier.service.http.page_schemas import JobView
from luthier.service.http.parts import Parts
from luthier.service.records import Job

TOLD = frozenset(
    {"evaluated", "checkpoint", "warning", "notice", "planned", "resumed", "sample", "failed",
     "finished", "plan_checked", "data", "reference"}
)  # fmt: skip
Wire = Callable[[JsonObject, str], schemas.JobEvent]
News = list[tuple[str, object]]


def job_feed(found: Parts, job_id: str, *, wire: Wire | None = None) -> Feed:
    """Everything new about one job.

    Args:
        wire: Turns an event of the run into OpenAI's object; only those are sent then.
    """
    source = _JobNews(found, job_id, wire)
    return Feed(source.snapshot, source.poll)


class _JobNews:
    def __init__(self, found: Parts, job_id: str, wire: Wire | None) -> None:
        self._found, self._id, self._wire = found, job_id, wire
        self._seen: JobView | None = None
        self._count = 0
        self._started = False

    def snapshot(self) -> News:
        """Where the job stands."""
        job = self._found.job(self._id)
        history = self._found.histories.of(job.run_path)
        if not self._started:
            history.update()
            self._started = True
            self._seen, self._count = state_of(self._found, job), history.num_events
            self._mark(history)
        if self._wire is not None:
            return [("", None)] if job.ended else []
        news: News = [("state", state_of(self._found, job))]
        news += [("step", history.last_step)] if history.last_step else []
        news += [("monitor", history.last_monitor)] if history.last_monitor else []
        return [*news, *([("", None)] if job.ended else [])]

    def _mark(self, history: History) -> None:
        self._step, self._sample = history.last_step, history.last_monitor
        self._last = history.events[-1] if history.events else None

    def poll(self) -> News:
        """What has changed since the last time; the end, where the job is no more."""
        try:
            job = self._found.job(self._id)
        except JobNotFoundError:
            return [("", None)]
        history = self._found.histories.of(job.run_path).update()
        fresh = _after(history.events, self._last)
        news: News = [(str(one["type"]), one) for one in fresh if one.get("type") in TOLD]
        if history.last_step is not self._step and history.last_step:
            news.append(("step", history.last_step))
        if history.last_monitor is not self._sample and history.last_monitor:
            news.append(("monitor", history.last_monitor))
        self._mark(history)
        if self._wire is not None:
            return self._wired(news, job)
        if (state := state_of(self._found, job)) != self._seen:
            self._seen = state
            news.append(("state", state))
        return [*news, *([("", None)] if job.ended else [])]

    def _wired(self, news: News, job: Job) -> News:
        assert self._wire is not None
        tail = job.id.removeprefix("ftjob-")
        told: News = []
        for kind, event in news:
            if kind not in ("monitor", "reference"):
                self._count += 1
                told.append(
                    (NAMELESS, self._wire(object_of(event), f"ftevent-{tail}-s{self._count}"))
                )
        return [*told, *([("", None)] if job.ended else [])]


def _after(events: list[JsonObject], last: JsonObject | None) -> list[JsonObject]:
    """Events behind the one that was last; all of them where it is no longer there."""
    for position in range(len(events) - 1, -1, -1):
        if events[position] is last:
            return events[position + 1 :]
    return list(events)


def state_of(found: Parts, job: Job) -> JobView:
    """What a list of jobs shows of one."""
    return {
        "id": job.id,
        "name": job.name,
        "state": job.state,
        "wish": job.wish,
        "priority": job.priority,
        "model": job.model,
        "base": shown_model(found, job),
        "method": job.settings.get("method"),
        "objective": job.settings.get("objective"),
        "devices": list(job.devices),
        "attempts": job.attempts,
        "retries": job.retries,
        "error": dict(job.error) if job.error else None,
        "created_at": job.created_at,
        "queued_at": job.queued_at,
        "started_at": job.started_at,
        "finished_at": job.finished_at,
        "managed": job.managed,
        "run": job.run_path.name,
        "metadata": dict(job.metadata),
    }


def all_feed(found: Parts) -> Feed:
    """Every change of any job, and the machine."""
    source = _AllNews(found)
    return Feed(source.snapshot, source.poll)


class _AllNews:
    EVERY = 4  # turns between two looks at the machine

    def __init__(self, found: Parts) -> None:
        self._found, self._turn = found, 0
        self._seen: dict[str, JobView] = {}
        self._steps: dict[str, JsonObject] = {}

    def _jobs(self) -> list[Job]:
        return list(self._found.jobs.listing.all(limit=100)[0])

    def snapshot(self) -> News:
        """The machine, and the jobs that have not ended."""
        news: News = [("machine", machine(self._found))]
        for job in self._jobs():
            self._seen.setdefault(job.id, state_of(self._found, job))
            if not job.ended:
                news.append(("state", state_of(self._found, job)))
        return news

    def poll(self) -> News:
        """Jobs that changed; the machine every other second."""
        self._turn += 1
        news: News = []
        for job in self._jobs():
            state = state_of(self._found, job)
            if self._seen.get(job.id) != state:
                self._seen[job.id] = state
                news.append(("state", state))
            if job.active:
                news += self._step(job)
        if self._turn % self.EVERY == 0:
            try:
                news.append(("machine", machine(self._found)))
            except (LuthierError, OSError) as error:
                news.append(("notice", {"text": f"the machine cannot be read: {error}"}))
        return news

    def _step(self, job: Job) -> News:
        history = self._found.histories.of(job.run_path).update()
        if history.last_step is self._steps.get(job.id) or not history.last_step:
            return []
        self._steps[job.id] = history.last_step
        return [("step", {"id": job.id, **history.last_step})]
