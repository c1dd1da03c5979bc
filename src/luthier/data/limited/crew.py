"""The children that render for one renderer: rows go to whoever has least to do, answers come in order.

A child that takes more than it may is ended; the row that it had in hand is named, and what it had
been sent ahead goes to another one.
"""

import atexit
import os
import threading
import weakref
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from luthier.data.limited.process import ChildAnswer, ChildEnded, ChildLimits, Process, wait
from luthier.data.limited.wire import Json
from luthier.errors import DataError, LuthierError, TokenizerError, from_dict

_MOST_CHILDREN = 8
_AHEAD = 32  # rows that a child has been sent and has not answered
_IDLE: list[Process] = []

Result = ChildAnswer | ChildEnded


class _Asked(NamedTuple):
    """A question on its way: its number (none for the opening), and how often it was sent."""

    number: int | None
    body: Json
    tries: int = 1


class Crew:
    """Children that all have the same tokenizer and template open.

    Args:
        opening: The question that opens them.
        most: Children at once; None is one for each core that this process may use.

    Attributes:
        most: As given or found.
        stops: Rows that were stopped at a limit, as their errors.
    """

    def __init__(
        self, opening: Json, *, limits: ChildLimits | None = None, most: int | None = None
    ) -> None:
        self.limits = limits or ChildLimits()
        self._opening, self.most = opening, most or cores()
        self._opened: Json | None = None
        self._wanted = 1
        self._asked: dict[Process, deque[_Asked]] = {}
        self._found: dict[int, Result] = {}
        self._unwanted: set[int] = set()
        self._number = 0
        self.stops: list[DataError] = []
        self._lock = threading.RLock()
        self._release = weakref.finalize(self, _release, self._asked)

    def open(self) -> Json:
        """Open tokenizer and template in a first child, and say what was found.

        Raises:
            LuthierError: What the child raised, or that it was ended.
        """
        with self._lock:
            self._start()
            while self._opened is None:
                self._wait()
            return self._opened

    def widen(self) -> None:
        """Use as many children as there may be."""
        self._wanted = self.most

    @property
    def ahead(self) -> int:
        """Questions that may be on their way."""
        return _AHEAD * self._wanted

    def submit(self, body: Json) -> int:
        """Send a question; its number is what `result` takes."""
        with self._lock:
            self._number += 1
            self._give(_Asked(self._number, body))
            return self._number

    def result(self, number: int) -> Result:
        """The answer to a question; every answer can be had once."""
        with self._lock:
            while number not in self._found:
                self._wait()
            return self._found.pop(number)

    def ask(self, body: Json) -> ChildAnswer:
        """A question and its answer.

        Raises:
            ChildEnded: There is none.
        """
        found = self.result(self.submit(body))
        if isinstance(found, ChildEnded):
            raise found
        return found

    def forget(self, numbers: Iterable[int]) -> None:
        """These answers will not be asked for."""
        with self._lock:
            for number in numbers:
                if self._found.pop(number, None) is None:
                    self._unwanted.add(number)

    def rest(self) -> None:
        """Give the children back; the next question starts one again."""
        with self._lock:
            _release(self._asked)
            self._wanted = 1

    # -- the children

    def _start(self, *, tries: int = 1) -> Process:
        process = take(self.limits)
        self._asked[process] = deque()
        self._send(process, _Asked(None, self._opening, tries))
        return process

    def _give(self, asked: _Asked) -> None:
        idle = min(self._asked, key=lambda process: process.waiting, default=None)
        if idle is None or (idle.waiting and len(self._asked) < self._wanted):
            idle = self._start()
        self._send(idle, asked)

    def _send(self, process: Process, asked: _Asked) -> None:
        opening = asked.number is None
        body = {**asked.body, "cpu_s": self.limits.open_s} if opening else asked.body
        process.send(body, clock_s=2.0 * self.limits.open_s if opening else None)
        self._asked[process].append(asked)

    def _wait(self) -> None:
        busy = [process for process, asked in self._asked.items() if asked]
        for process, found in wait(busy):
            if isinstance(found, ChildEnded):
                self._replace(process, found)
            else:
                for answer in found:
                    self._take(self._asked[process].popleft(), answer)

    def _take(self, asked: _Asked, found: Result) -> None:
        if asked.number is None:
            if isinstance(found, ChildEnded):
                raise _not_opened(found, self.limits)
            if "error" in found.body:
                raise error_of(found.body)
            if "fault" in found.body:
                raise RuntimeError(found.body["fault"])
            if "stopped" in found.body:
                raise _not_opened(too_large(self.limits), self.limits)
            self._opened = found.body
        elif asked.number in self._unwanted:
            self._unwanted.discard(asked.number)
        else:
            self._found[asked.number] = found

    def _replace(self, process: Process, ended: ChildEnded) -> None:
        """Account for a child that is gone: its row in hand, and what it was sent ahead."""
        asked = list(self._asked.pop(process))
        first = asked.pop(process.in_hand())
        others = [one for one in asked if one.number is not None]
        process.close()
        if str(ended) or first.tries > 1:
            self._take(first, ended)
        elif first.number is None:
            self._start(tries=2)
        else:
            others.insert(0, first._replace(tries=2))
        for one in others:
            self._give(one)


def cores() -> int:
    """Children that this process may have: its share of the cores, other ranks of a run counted."""
    ranks = os.environ.get("LOCAL_WORLD_SIZE", "1")
    share = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    share //= int(ranks) if ranks.isdigit() and int(ranks) else 1
    return max(1, min(_MOST_CHILDREN, share))


def take(limits: ChildLimits) -> Process:
    """A child with nothing to do, started if there is none."""
    while _IDLE:
        process = _IDLE.pop()
        if process.limits == limits and process.alive:
            return process
        process.close()
    return Process(limits)


def get_ready() -> None:
    """Start a child that will be needed soon; it loads what it needs while others work."""
    if not _IDLE:
        _IDLE.append(Process(ChildLimits()))


def _release(asked: dict[Process, deque[_Asked]]) -> None:
    """Keep one child that has nothing to do, and end the others."""
    for process, waiting in asked.items():
        if waiting or _IDLE or not process.alive:
            process.close()
        else:
            _IDLE.append(process)
    asked.clear()


def _end_idle() -> None:
    while _IDLE:
        _IDLE.pop().close()


atexit.register(_end_idle)
os.register_at_fork(after_in_child=_IDLE.clear)


def error_of(body: Mapping[str, Any]) -> LuthierError:
    """What a child raised."""
    return from_dict(body["error"])


def too_large(limits: ChildLimits) -> ChildEnded:
    """That a child found no more memory, and went on."""
    return ChildEnded(f"it takes more than {limits.memory_said} of memory")


def _not_opened(ended: ChildEnded, limits: ChildLimits) -> DataError:
    return TokenizerError(
        f"the tokenizer or the chat template was stopped while it was opened: "
        f"{ended or 'its process ended'}",
        why=f"it is loaded and tried within {limits.open_s} s of processor time and "
        f"{limits.memory_said} of memory",
        fix="fetch the files of the model again, or: chat_template: FILE.jinja",
    )
