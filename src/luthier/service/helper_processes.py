"""Tasks in processes of their own: bounded in number, memory and time.

The names of the tasks and what they take are in `luthier.worker.tasks`; data files, tokenizers and
templates that strangers made are read there and nowhere in the server.
"""

import json
import math
import os
import threading
from collections.abc import Collection, Mapping
from pathlib import Path

from luthier import children, errors
from luthier.bounded import decode_ours
from luthier.children import Bounds
from luthier.errors import HelperError
from luthier.process_messages import HelperAnswer
from luthier.units import GIB, format_bytes

MEMORY_BYTES = 4 * GIB
TIMEOUT_S = 60.0
PATIENCE_S = 30.0
"""Longest wait for one of the places."""


class Helpers:
    """A few places for helpers.

    Args:
        places: How many run at once; more wait.
        memory_bytes: Address space of each.
        reach: Folders that it opens; none is no limit.
    """

    def __init__(
        self, *, places: int = 2, memory_bytes: int = MEMORY_BYTES, reach: Collection[Path] = ()
    ) -> None:
        self._places = threading.BoundedSemaphore(places)
        self._memory_bytes, self._reach = memory_bytes, reach
        self._running: set[children.Child] = set()
        self._closing = False

    def call(
        self, task: str, request: Mapping[str, object], *, timeout_s: float = TIMEOUT_S
    ) -> Mapping[str, object]:
        """The answer of a task; blocks.

        Raises:
            LuthierError: Of the class that the task raised.
            HelperError: No place became free, it took too long or too much memory, or it broke.
        """
        if not self._places.acquire(timeout=PATIENCE_S):
            raise HelperError(
                f"{task}: all helpers are busy",
                why=f"a request waits {PATIENCE_S:.0f} s for one",
                fix="try again in a moment",
            )
        try:
            return self._run(task, request, timeout_s)
        finally:
            self._places.release()

    def _run(
        self, task: str, request: Mapping[str, object], timeout_s: float
    ) -> Mapping[str, object]:
        if self._closing:
            raise _closing(task)
        child = self._start(timeout_s)
        try:
            body = json.dumps({"task": task, "request": request})
            done = children.finish(child, body + "\n", timeout_s=timeout_s)
        except children.TooLateError:
            raise HelperError(
                f"{task} was stopped after {timeout_s:.0f} s",
                why="a helper is bounded, so that one file cannot hold up everybody",
                fix="the same on the command line has no such limit, see luthier data --help",
            ) from None
        finally:
            self._running.discard(child)
        if self._closing:
            raise _closing(task)
        return self._answer(task, done)

    def _start(self, timeout_s: float) -> children.Child:
        bounds = Bounds(
            memory_bytes=self._memory_bytes,
            cpu_s=math.ceil(timeout_s) * (os.cpu_count() or 1),
        )
        child = children.start(
            "luthier.worker.helper",
            environment=children.serving_environment(self._reach),
            bounds=bounds,
            stdin=children.PIPE,
            stdout=children.PIPE,
            stderr=children.PIPE,
        )
        self._running.add(child)
        return child

    def close(self) -> None:
        """End every helper at work; whoever waits for one is told that the server closes."""
        self._closing = True
        for child in [*self._running]:
            children.kill(child)

    def _answer(self, task: str, done: children.ChildOutput) -> Mapping[str, object]:
        lines = done.out.splitlines()
        broken: HelperAnswer = {"fault": (done.err.strip() or "no answer")[-300:]}
        answer: HelperAnswer = decode_ours(lines[-1]) if lines else broken
        if "error" in answer:
            raise errors.from_dict(answer["error"])
        if "fault" in answer:
            memory = answer["fault"] == "memory"
            raise HelperError(
                f"{task} needed more than {format_bytes(self._memory_bytes)} of memory"
                if memory
                else f"{task} broke: {answer['fault']}",
                why="a helper is bounded in memory" if memory else "this is a fault of luthier",
                fix="the same on the command line has no such limit, see luthier data --help"
                if memory
                else "the log of the server has the details",
            )
        return answer["result"]


def _closing(task: str) -> HelperError:
    return HelperError(
        f"{task} was not finished", why="the server is closing", fix="ask again when it is back"
    )
