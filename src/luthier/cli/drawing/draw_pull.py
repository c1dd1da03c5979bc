"""The progress of a download: a bar on a terminal, a line for every tenth elsewhere."""

import sys
from types import TracebackType
from typing import TYPE_CHECKING, Self

from luthier.units import format_bytes

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

TENTHS = 10


class PullProgress:
    """Shows bytes at hand of bytes in all; use as a context, and call it with each piece."""

    def __init__(self) -> None:
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._told = -1

    def __enter__(self) -> Self:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import (
                BarColumn,
                DownloadColumn,
                Progress,
                TextColumn,
                TimeRemainingColumn,
                TransferSpeedColumn,
            )

            self._bar = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(bar_width=24),
                DownloadColumn(binary_units=True),
                TransferSpeedColumn(),
                TimeRemainingColumn(),
                console=Console(stderr=True),
            )
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, name: str, done: int, total: int) -> None:
        """Of `total` bytes of all files known so far, `done` are here; `name` is being fetched."""
        if self._bar is not None:
            if self._task is None:
                self._task = self._bar.add_task(name, total=total)
            self._bar.update(self._task, description=name, completed=done, total=total)
            return
        tenth = done * TENTHS // max(total, 1)
        if total >= 2**20 and tenth > self._told:
            self._told = tenth
            sys.stderr.write(f"{name}: {format_bytes(done)} of {format_bytes(total)}\n")
