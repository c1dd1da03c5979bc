"""What is said about a run while it lives: `planner.health` over its own events, once per kind."""

from luthier.advisor.health import Judgement, Seen, judge_seen
from luthier.events import Evaluated, Event, Notice, Resumed, Said, Step, Warned, read_events
from luthier.runs import EventLog, RunDirectory

EVERY = 10
"""Steps between two looks; an evaluation is always looked at."""

KEPT = 500
"""Latest steps that are looked at, so that a long run costs no more than a short one."""


class Voice:
    """Hears a run's events and adds `warning` and `notice` events of its own.

    It reads figures that were written anyway and touches nothing else, so a run is the same with
    and without it.  After a resume it goes on where the events of the run say it stopped.
    """

    def __init__(self, log: EventLog, directory: RunDirectory) -> None:
        self._log = log
        self._seen = Seen()
        self._said: set[str] = set()
        if directory.events_file.exists():
            for event in read_events(directory.events_file):
                self._take(event)

    def hear(self, event: Event) -> None:
        """Look at the run when it is due."""
        self._take(event)
        due = isinstance(event, Evaluated) or (isinstance(event, Step) and event.step % EVERY == 0)
        if due and not self._seen.finished:
            for judgement in judge_seen(self._seen):
                self._say(judgement)

    def _take(self, event: Event) -> None:
        if isinstance(event, Resumed):
            self._seen.forget(event.from_step)
        elif isinstance(event, Said):
            self._said.add(event.code or "")
        else:
            self._seen.add(event)
            self._seen.keep_latest(KEPT)

    def _say(self, judgement: Judgement) -> None:
        if judgement.code in self._said:
            return
        self._said.add(judgement.code)
        kind = Warned if judgement.severity == "warning" else Notice
        self._log.emit(
            kind(
                text=f"{judgement.text()} {judgement.action}",
                code=judgement.code,
                params=dict(judgement.params),
                action=judgement.action,
            )
        )
