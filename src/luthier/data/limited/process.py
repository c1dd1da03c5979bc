"""One child that renders: started, asked, and ended when it takes too much.

Questions may be sent ahead; answers come in order.  All waiting is done in `wait`, for any number of
children at once, so that nobody needs a thread.
"""

import contextlib
import fcntl
import json
import os
import selectors
import tempfile
import time
from collections import deque
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from luthier import children
from luthier.bounded import decode_ours
from luthier.children import Bounds
from luthier.data.limited import wire
from luthier.limits import (
    RENDER_BYTES,
    RENDER_CPU_SECONDS,
    RENDER_OPEN_SECONDS,
    RENDER_SECONDS,
)
from luthier.units import MIB, format_bytes

_PIPE_BYTES = 1 * MIB
_CHUNK, _READS = 1 * MIB, 16
_MOST_BYTES = 1 << 30
_QUIET = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
}


@dataclass(frozen=True, slots=True)
class ChildLimits:
    """What a child may take; `cpu_s` and `clock_s` for one row, `open_s` for tokenizer and template."""

    memory_bytes: int = RENDER_BYTES
    cpu_s: int = RENDER_CPU_SECONDS
    clock_s: float = RENDER_SECONDS
    open_s: int = RENDER_OPEN_SECONDS

    @property
    def memory_said(self) -> str:
        """The memory in words."""
        return format_bytes(self.memory_bytes)

    @property
    def said(self) -> str:
        """The limits as the rule in a message."""
        return (
            f"a row is rendered and encoded within {self.memory_said} of memory, "
            f"{self.cpu_s} s of processor time and {self.clock_s:g} s by the clock"
        )


class ChildAnswer(NamedTuple):
    """What came back: the fields, and the bytes behind them."""

    body: dict[str, Any]
    rest: bytearray


class ChildEnded(Exception):  # noqa: N818 - caught and told as an error of the row
    """The child is gone; its message says by which limit, or is empty where none is known."""


class Process:
    """A child of `luthier.data.limited.serve`.

    Attributes:
        why: The limit that it was ended for; empty if none.
    """

    def __init__(self, limits: ChildLimits) -> None:
        self.limits = limits
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed when the child ends
        self._log.seek(wire.LOG_FROM)
        self._child = children.start(
            "luthier.data.limited.serve",
            json.dumps({"cpu_s": limits.cpu_s}),
            environment={**children.serving_environment(), **_QUIET},
            bounds=Bounds(memory_bytes=limits.memory_bytes),
            stdin=children.PIPE,
            stdout=children.PIPE,
            stderr=self._log.fileno(),
        )
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        self.to, self.out = self._child.stdin.fileno(), self._child.stdout.fileno()
        for descriptor in (self.to, self.out):
            os.set_blocking(descriptor, False)
            with contextlib.suppress(OSError, AttributeError):  # more than the user may have
                fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        self._unsent: deque[memoryview] = deque()
        self._read = bytearray()
        self._allowed: deque[float] = deque()
        self._since = time.monotonic()
        self._answered = 0
        self.why = ""
        self.pid = self._child.pid

    @property
    def waiting(self) -> int:
        """Questions without an answer."""
        return len(self._allowed)

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return self._child.poll() is None

    @property
    def wants_to_write(self) -> bool:
        """Whether a question is not sent yet."""
        return bool(self._unsent)

    def send(self, body: Mapping[str, object], *, clock_s: float | None = None) -> None:
        """Put a question behind the others; it goes out now as far as the pipe takes it.

        Raises:
            TypeError: It holds a value that JSON has no form for.
        """
        sent = wire.question(body)
        if not self._allowed:
            self._since = time.monotonic()
        self._allowed.append(self.limits.clock_s if clock_s is None else clock_s)
        self._unsent.append(memoryview(sent))
        self.write()

    def write(self) -> None:
        """Send what the pipe takes."""
        try:
            while self._unsent:
                done = os.write(self.to, self._unsent[0])
                if done == len(self._unsent[0]):
                    self._unsent.popleft()
                else:
                    self._unsent[0] = self._unsent[0][done:]
        except BlockingIOError:
            return
        except BrokenPipeError:
            self._unsent.clear()  # `read` finds the end and says why

    def read(self) -> list[ChildAnswer]:
        """The answers that have come.

        Raises:
            ChildEnded: It is gone, and there is no whole answer left.
        """
        ended = False
        with contextlib.suppress(BlockingIOError):  # all that was there has been read
            for _ in range(_READS):
                found = os.read(self.out, _CHUNK)
                self._read += found
                if ended := not found:
                    break
        made = self._whole_answers()
        if ended and not made:
            raise ChildEnded(self._cause())
        return made

    def _whole_answers(self) -> list[ChildAnswer]:
        made: list[ChildAnswer] = []
        done, size = 0, wire.ANSWER.size
        while len(self._read) - done >= size:
            head, rest = wire.ANSWER.unpack_from(self._read, done)
            if head + rest > _MOST_BYTES:
                self.why = f"it answers with more than {format_bytes(_MOST_BYTES)}"
                self.end()
                raise ChildEnded(self.why)
            start = done + size
            if len(self._read) < start + head + rest:
                break
            body = decode_ours(bytes(self._read[start : start + head]))
            made.append(ChildAnswer(body, self._read[start + head : start + head + rest]))
            done = start + head + rest
        if done:
            del self._read[:done]
            self._since = time.monotonic()
            self._answered += len(made)
            for _ in made:
                self._allowed.popleft()
        return made

    def left_s(self, since: float) -> float:
        """Seconds by the clock that its question in hand has, counted from no earlier than `since`."""
        return max(self._since, since) + self._allowed[0] - time.monotonic()

    def stop_late(self) -> None:
        """End it because its time by the clock is over."""
        self.why = f"it takes more than {self._allowed[0]:g} seconds"
        self.end()

    def _cause(self) -> str:
        """Which limit ended it; empty where none is known to have."""
        if self.why:
            return self.why
        status = self._child.wait()
        if status == -24:  # SIGXCPU
            return f"it takes more than {self.limits.cpu_s} seconds of processor time"
        if status in (-6, -11) or status > 0:  # how allocators end what they have no memory for
            return f"it takes more than {format_bytes(self.limits.memory_bytes)} of memory"
        return ""

    def in_hand(self) -> int:
        """Of a child that is gone: which of its questions without an answer it had begun last.

        Those in front of it were answered, and the answers were not sent yet.
        """
        head = os.pread(self._log.fileno(), wire.BEGUN.size, 0)
        begun = wire.BEGUN.unpack(head)[0] if len(head) == wire.BEGUN.size else 0
        return min(max(begun - self._answered - 1, 0), max(self.waiting - 1, 0))

    def end(self) -> None:
        """End it now."""
        children.end(self._child)

    def close(self) -> None:
        """End it, and forget what it wrote."""
        self.end()
        self._log.close()


def wait(processes: Collection[Process]) -> list[tuple[Process, list[ChildAnswer] | ChildEnded]]:
    """Wait until one of several has an answer or is gone; one that is late is ended.

    Each of `processes` has a question.
    """
    since = time.monotonic()
    while True:
        with selectors.DefaultSelector() as selector:
            for process in processes:
                selector.register(process.out, selectors.EVENT_READ, process)
                if process.wants_to_write:
                    selector.register(process.to, selectors.EVENT_WRITE, process)
            left = min(process.left_s(since) for process in processes)
            ready = selector.select(max(left, 0.0))
        found: list[tuple[Process, list[ChildAnswer] | ChildEnded]] = []
        for key, events in ready:
            one: Process = key.data
            if events & selectors.EVENT_WRITE:
                one.write()
                continue
            try:
                if answers := one.read():
                    found.append((one, answers))
            except ChildEnded as error:
                one.end()
                found.append((one, error))
        seen = {id(process) for process, _ in found}
        for process in processes:
            if id(process) not in seen and process.left_s(since) <= 0:
                process.stop_late()
                found.append((process, ChildEnded(process.why)))
        if found:
            return found
