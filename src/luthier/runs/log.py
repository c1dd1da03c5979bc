"""The events of a run, on disk and to whoever listens."""

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

from luthier.durable import AppendFile
from luthier.errors import LuthierError
from luthier.events import Event

Listener = Callable[[Event], None]


class EventLog:
    """Appends to `events.jsonl`; a line that a kill has torn is closed first.

    Every line is with the system before `emit` returns, and with the disk for the events that
    decide what a run is: started, resumed, checkpoint, finished, failed.  object thread may emit.

    Args:
        path: The file of events, or the run directory that holds it.
        listeners: Called in order after the line is written, in the thread that emits; what they
            raise reaches the one who emits.
    """

    def __init__(self, path: Path | Any, listeners: Sequence[Listener] = ()) -> None:
        self._file = AppendFile(path if isinstance(path, Path) else path.events_file)
        self._listeners = list(listeners)
        self._lock = threading.RLock()

    def listen(self, listener: Listener) -> None:
        """Call this for every later event too."""
        self._listeners.append(listener)

    def emit(self, event: Event) -> None:
        """Write one event and tell the listeners.

        Raises:
            DiskFullError: The line could not be written for lack of space.
        """
        with self._lock:
            self._file.append(event.to_json(), sync=event.synced)
            for listener in self._listeners:
                listener(event)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        try:
            self.close()
        except LuthierError as worse:
            if error is None:
                raise
            error.add_note(worse.what)  # the first error is the one to be told
