"""What the files of a run say about an attempt, read piece by piece as they grow."""

import os
from pathlib import Path

from luthier.durable import write_atomic
from luthier.events import Failed, Finished, Planned, Started, Step, decode, parse
from luthier.runs.tail import Tail

LOG_BYTES = 4 * 2**20
_KEPT_BYTES = 2**20


class Follow:
    """The events of one attempt.

    Args:
        path: `events.jsonl`.
        position: Byte at which the attempt begins.

    Attributes:
        started: Whether it has said `started`.
        step, total: Of the last step it told.
        ending: Its `finished` or `failed` event.
    """

    def __init__(self, path: Path, position: int) -> None:
        self._tail = Tail(path, position)
        self.started = False
        self.step = 0
        self.total: int | None = None
        self.ending: Finished | Failed | None = None

    def poll(self) -> None:
        """Read what is new."""
        for line in self._tail.lines():
            match parse(decode(line) or {}):
                case Started():
                    self.started = True
                case Planned(steps=steps):
                    self.total = steps
                case Step(step=step, total=total):
                    self.step, self.total = step, self.total if total is None else total
                case Finished() | Failed() as ending:
                    self.ending = ending

    @property
    def saving(self) -> bool:
        """Whether the last step is done and the result not yet told."""
        return self.ending is None and self.total is not None and self.step >= self.total


def size_of(path: Path) -> int:
    """Bytes of a file; 0 where there is none."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def cap_log(path: Path, *, limit: int = LOG_BYTES) -> bool:
    """Keep a log that another process appends to below a size; its end so far goes to `<name>.1`.

    Returns:
        Whether it was cut.
    """
    size = size_of(path)
    if size <= limit:
        return False
    with path.open("rb") as file:
        file.seek(size - min(size, _KEPT_BYTES))
        tail = file.read(_KEPT_BYTES)
    note = f"[the log was over {limit:,} bytes; what is left of it is its last {len(tail):,}]\n"
    write_atomic(path.with_name(path.name + ".1"), note.encode() + tail)
    os.truncate(path, 0)  # the writer appends, so it goes on at the new end
    return True
