"""What the files of a run say about an attempt, read piece by piece as they grow."""

import contextlib
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from luthier.durable import write_atomic

LOG_BYTES = 4 * 2**20
_KEPT_BYTES = 2**20


@dataclass
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

    path: Path
    position: int
    started: bool = False
    step: int = 0
    total: int | None = None
    ending: dict[str, Any] | None = None
    _rest: bytes = field(default=b"", repr=False)

    def poll(self) -> None:
        """Read what is new."""
        try:
            with self.path.open("rb") as file:
                file.seek(self.position)
                block = file.read()
        except FileNotFoundError:
            return
        self.position += len(block)
        *lines, self._rest = (self._rest + block).split(b"\n")
        for line in lines:
            with contextlib.suppress(ValueError):  # torn by a kill; the next one is whole
                self._take(json.loads(line))

    def _take(self, event: dict[str, Any]) -> None:
        kind = event.get("type")
        if kind == "started":
            self.started = True
        elif kind == "planned":
            self.total = event.get("steps")
        elif kind == "step":
            self.step, self.total = event["step"], event.get("total", self.total)
        elif kind in {"finished", "failed"}:
            self.ending = event

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
