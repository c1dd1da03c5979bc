"""What a run has written so far, read once and then only what is new.

`events.jsonl` and `monitor.jsonl` grow by lines; a `History` keeps how far it has read, the thinned
figures, and the events that are not steps.  After a resume the steps behind it are void: a mark in
the file says so, and where thinned figures cannot be cut there, the file is read again.
"""

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from typing_extensions import TypedDict

from luthier.bounded import decode_ours
from luthier.events import decode, stands
from luthier.json_values import JsonObject, number_of, object_of, whole_of
from luthier.runs.tail import Tail
from luthier.service.http.live.columns import FigureColumns

MAX_EVENTS = 5000
"""Events kept besides steps: the first and the last of them, where there are more."""

MAX_OPEN = 32
STEP_SERIES = ("loss", "grad_norm", "learning_rate", "tokens_per_s", "seconds", "tokens")


class MonitorSeries(TypedDict):
    """Figures of the machine over the seconds of a run."""

    elapsed_s: Sequence[float]
    series: Mapping[str, Sequence[float | None]]


class RunFigures(TypedDict):
    """Figures of a run, thinned; every series is as long as its x."""

    steps: Sequence[int]
    series: Mapping[str, Sequence[float | None]]
    evaluations: Sequence[Mapping[str, object]]
    markers: Sequence[Mapping[str, object]]
    monitor: MonitorSeries
    samples: Sequence[Mapping[str, object]]
    total_points: int


class History:
    """The figures and events of one run.

    Args:
        path: The run directory.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._events_tail, self._monitor_tail = self._tails()
        self._reset()

    def _tails(self) -> tuple[Tail, Tail]:
        return Tail(self.path / "events.jsonl"), Tail(self.path / "monitor.jsonl")

    def _reset(self) -> None:
        self._events_tail, self._monitor_tail = self._tails()
        self.steps, self.monitor = FigureColumns(), FigureColumns()
        self.events: list[JsonObject] = []
        self.last_step: JsonObject = {}
        self.last_monitor: JsonObject = {}
        self.reference: JsonObject = {}
        self.num_events = self.trained_tokens = 0
        self._skip: list[tuple[int, int]] = []
        self._monitor_base = 0.0

    def update(self, on_event: Callable[[JsonObject], None] | None = None) -> "History":
        """Read what is new; `on_event` gets each new event, and monitor samples as `monitor`."""
        with self._lock:
            if self._events_tail.replaced() or self._monitor_tail.replaced():
                self._reset()
            if self._events_tail.offset == 0:
                self._skip = _voided(self._events_tail.path)
            self._read_events(on_event)
            for line in self._monitor_tail.lines():
                self._sample(line, on_event)
        return self

    def _read_events(self, on_event: Callable[[JsonObject], None] | None) -> None:
        for line in self._events_tail.lines():
            event = decode(line)
            if event is None:
                continue
            if not self._take(event):
                self._reset()
                self._skip = _voided(self._events_tail.path)
                self._read_events(None)
                return
            if on_event is not None:
                on_event(event)

    def _take(self, event: JsonObject) -> bool:
        """Take in one event; false where a resume asks for what can no longer be told apart."""
        kind = event.get("type")
        self.num_events += 1
        if kind == "resumed" and (last := whole_of(event.get("from_step"))) is not None:
            if self.steps.last_x > last:
                return False
            self.events = [old for old in self.events if stands(old, last)]
        if kind == "step":
            self._step(event)
        elif kind == "reference":
            self.reference = event
        else:
            if kind == "evaluated":
                done = ("evaluated", event.get("step"))
                self.events = [
                    old for old in self.events if (old.get("type"), old.get("step")) != done
                ]
            self.events.append(event)
            if len(self.events) > MAX_EVENTS:
                del self.events[MAX_EVENTS // 2]
        return True

    def _step(self, event: JsonObject) -> None:
        step = event.get("step")
        void = next((last for end, last in self._skip if self._events_tail.offset <= end), None)
        if not isinstance(step, int) or (void is not None and not stands(event, void)):
            return
        values = {name: event.get(name) for name in STEP_SERIES}
        for name, value in object_of(event.get("metrics")).items():
            values.setdefault(str(name)[:80], value)
        if step > self.steps.last_x:
            self.steps.add(step, values)
            tokens = event.get("tokens")
            self.trained_tokens += tokens if isinstance(tokens, int) else 0
        self.last_step = event

    def _sample(self, line: bytes, on_event: Callable[[JsonObject], None] | None) -> None:
        sample = _parsed(line)
        if sample is None or "elapsed_s" not in sample:
            return
        elapsed_s = number_of(sample["elapsed_s"])
        if elapsed_s is None:
            return
        if self._monitor_base + elapsed_s < self.monitor.last_x:  # a resumed run counts from 0
            self._monitor_base = self.monitor.last_x
        hidden = ("time", "elapsed_s")
        values = {name: value for name, value in sample.items() if name not in hidden}
        self.monitor.add(self._monitor_base + elapsed_s, values)
        self.last_monitor = sample
        if on_event is not None:
            on_event({"type": "monitor", **sample})

    def latest(self, kind: str) -> JsonObject:
        """The last event of a type; empty without one."""
        return next((old for old in reversed(self.events) if old.get("type") == kind), {})

    def metrics(self, points: int) -> RunFigures:
        """Everything a page of charts needs at first."""
        with self._lock:
            steps, series = self.steps.read(points)
            elapsed, monitor = self.monitor.read(points)
            events = list(self.events)
            total = self.steps.total
        return {
            "steps": [int(step) for step in steps],
            "series": series,
            "evaluations": [_evaluation(one) for one in events if one["type"] == "evaluated"],
            "markers": [marker for one in events for marker in _markers(one)],
            "monitor": {"elapsed_s": elapsed, "series": monitor},
            "samples": [
                {name: one.get(name) for name in ("step", "prompt", "answer", "expected", "whole")}
                for one in events
                if one["type"] == "sample"
            ],
            "total_points": total,
        }


class Histories:
    """Histories of the runs that somebody looks at; the one nobody has looked at longest goes."""

    def __init__(self, max_open: int = MAX_OPEN) -> None:
        self._open: OrderedDict[Path, History] = OrderedDict()
        self._max, self._lock = max_open, threading.Lock()

    def of(self, path: Path) -> History:
        """The history of a run directory, not yet brought up to date."""
        with self._lock:
            history = self._open.pop(path, None) or History(path)
            self._open[path] = history
            while len(self._open) > self._max:
                self._open.popitem(last=False)
        return history


def _voided(path: Path) -> list[tuple[int, int]]:
    """Ends of stretches of the file, and the last step of each that a later resume left standing."""
    found: list[tuple[int, int]] = []
    offset = 0
    if not path.exists():
        return found
    with path.open("rb") as stream:
        for line in stream:
            offset += len(line)
            event = (decode(line) or {}) if b'"resumed"' in line else {}
            last = whole_of(event.get("from_step")) if event.get("type") == "resumed" else None
            if last is not None:
                found.append((offset, last))
    lowest = max((last for _, last in found), default=0)
    for position in range(len(found) - 1, -1, -1):
        lowest = min(lowest, found[position][1])
        found[position] = (found[position][0], lowest)
    return found


def _parsed(line: bytes) -> JsonObject | None:
    try:
        value = decode_ours(line)
    except ValueError:  # torn by a kill; the next line is whole again
        return None
    return value if isinstance(value, dict) else None


def _evaluation(event: JsonObject) -> JsonObject:
    metrics = object_of(event.get("metrics"))
    return {"step": event.get("step"), "best": event.get("best"), **metrics}


def _markers(event: JsonObject) -> Iterator[JsonObject]:
    kind = event.get("type")
    step = event.get("step", event.get("from_step"))
    if kind in ("checkpoint", "resumed", "warning", "finished", "failed", "plan_checked"):
        text = str(event.get("text") or event.get("what") or event.get("reason") or "")
        if kind == "checkpoint":
            text = os.path.basename(str(event.get("path", "")))
        yield {"step": step, "kind": kind, "text": text[:500], "time": event.get("time")}
