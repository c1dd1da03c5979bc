"""A listener on the events of a run that hands their figures to a tracker."""

import contextlib
import os
import queue
import re
import threading
from collections.abc import Iterator
from types import TracebackType
from typing import Self

from luthier.bounded import decode
from luthier.events import (
    CheckpointSaved,
    Evaluated,
    Event,
    Failed,
    Finished,
    Planned,
    Resumed,
    Step,
    Warned,
    read_events,
)
from luthier.runs import EventLog, RunDirectory
from luthier.trackers.figures import figures, latest_sample
from luthier.trackers.tracker import Tracker, open_tracker

WAITING = 10_000
"""Events that may wait for a slow tracker; more mean that it does not keep up."""

PATIENCE_S = 30.0
"""How long the end of a run waits for a tracker."""

_WITH_FIGURES = (Step, Evaluated, CheckpointSaved)
_HEARD = (Planned, Resumed, *_WITH_FIGURES, Finished, Failed)
_SAMPLE_S = 2.0
WithFigures = Step | Evaluated | CheckpointSaved
_SECRETS = re.compile(r"KEY|TOKEN|PASSWORD|SECRET|CREDENTIAL", re.IGNORECASE)
_USERINFO = re.compile(r"(?<=://)[^/@\s]+@")


class Reporter:
    """Tells a tracker what a run says, in a thread of its own, while entered.

    The run never waits for the tracker before its end, and then for `patience_s` at most.  A
    tracker that raises, does not keep up, or does not end in time never ends or changes the run:
    that is said in one warning event, and the tracker is off for the rest of the process.

    A tracker that knows nothing of a run that has events already, because it was named only on
    resume, is told all of them.

    Args:
        name: A value of `report_to` other than `none`.
        log: Of the run; its later events are heard.
        patience_s: Seconds that the end of the run waits for the tracker.
    """

    def __init__(
        self, name: str, log: EventLog, directory: RunDirectory, patience_s: float = PATIENCE_S
    ) -> None:
        self._name, self._log, self._directory = name, log, directory
        self._patience_s = patience_s
        self._queue: queue.Queue[Event | None] = queue.Queue(WAITING)
        self._off = threading.Event()
        self._sampled_at = 0.0
        self._before = _history(directory)
        self._thread = threading.Thread(target=self._work, name=f"report-{name}", daemon=True)
        log.listen(self._hear)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not self._off.is_set():
            with contextlib.suppress(queue.Full):  # then the thread hangs, which is said below
                self._queue.put_nowait(None)
        self._thread.join(0 if self._off.is_set() else self._patience_s)
        if self._thread.is_alive() and not self._off.is_set():
            self._drop(f"not done {self._patience_s:g} s after the end of the run")

    def _hear(self, event: Event) -> None:
        if not isinstance(event, _HEARD) or self._off.is_set():
            return
        try:
            self._queue.put_nowait(event)
        except queue.Full:
            self._drop(f"{WAITING:,} events wait for it")

    def _drop(self, reason: str) -> None:
        self._off.set()
        text = (
            f"report_to: {self._name} is off for the rest of this run: {_without_secrets(reason)}"
        )
        self._log.emit(Warned(text=text))

    def _work(self) -> None:
        try:
            self._report()
        except Exception as error:  # noqa: BLE001 - clients raise anything; it is said in an event
            if not self._off.is_set():
                self._drop(f"{type(error).__name__}: {error}")

    def _report(self) -> None:
        reported = max((one.step for one in self._before), default=-1)
        tracker = open_tracker(self._name, self._directory, reported)
        skip, state = tracker.has, "interrupted"
        for old in self._before:
            if old.step > skip:
                tracker.figures(old.step, old.time, figures(old))
        tracker.has = max(skip, reported)
        self._before = []
        while (event := self._next(tracker)) is not None and not self._off.is_set():
            if isinstance(event, Finished):
                ended = event.reason != "interrupted"
                state = "finished" if ended else "interrupted"
            elif isinstance(event, Failed):
                state = "failed"
            else:
                self._tell(tracker, event)
        tracker.flush()
        tracker.end(state)

    def _next(self, tracker: Tracker) -> Event | None:
        with contextlib.suppress(queue.Empty):
            return self._queue.get_nowait()
        tracker.flush()  # nothing waits: let what was told be seen
        return self._queue.get()

    def _tell(self, tracker: Tracker, event: Event) -> None:
        if isinstance(event, Planned):
            tracker.settings(decode(self._directory.settings_file.read_bytes())["settings"])
        elif isinstance(event, Resumed):
            tracker.rewind(event.from_step)
        elif isinstance(event, _WITH_FIGURES) and event.step > tracker.has:
            values = figures(event)
            if isinstance(event, Step) and event.time - self._sampled_at >= _SAMPLE_S:
                self._sampled_at = event.time
                values |= latest_sample(self._directory.monitor_file)
            if values:
                tracker.figures(event.step, event.time, values)


def reporting(
    name: str, log: EventLog, directory: RunDirectory
) -> contextlib.AbstractContextManager[object]:
    """A reporter for `report_to: name`, or nothing for `none`."""
    return contextlib.nullcontext() if name == "none" else Reporter(name, log, directory)


def _history(directory: RunDirectory) -> list[WithFigures]:
    """The events with figures that count, of a run that is there already."""
    if not directory.events_file.exists():
        return []
    return list(_with_figures(directory))


def _with_figures(directory: RunDirectory) -> Iterator[WithFigures]:
    for event in read_events(directory.events_file):
        if isinstance(event, _WITH_FIGURES) and figures(event):
            yield event


def _without_secrets(text: str) -> str:
    """The text without values of secret variables of the environment, and users in addresses."""
    for name, value in os.environ.items():
        if _SECRETS.search(name) and len(value) >= 4:
            text = text.replace(value, f"<{name}>")
    return _USERINFO.sub("", text)
