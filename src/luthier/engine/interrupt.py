"""Stopping when asked: SIGTERM and the first Ctrl-C let the step end, the second Ctrl-C does not."""

import contextlib
import os
import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Self

EXIT_SIGTERM, EXIT_SIGINT = 143, 130
STOPPING = b"\nstopping: the step at work is finished and saved; Ctrl-C again stops at once\n"


class Interrupt:
    """While entered, takes SIGTERM and SIGINT; the loop asks `requested` after each micro-batch.

    Signals reach the main thread only, so entered in another thread it takes none, and only
    `request` can stop the run.  The handlers of before are back when it is left.
    """

    def __init__(self) -> None:
        self.requested: int | None = None
        self._interrupted = False
        self._before: dict[int, Any] = {}

    def request(self, code: int = EXIT_SIGTERM) -> None:
        """Ask the loop to save and stop, as a signal does; the first request decides the code."""
        if self.requested is None:
            self.requested = code

    @property
    def reason(self) -> str:
        """Of the `finished` event: `sigterm`, `sigint`, or `stopped`."""
        names = {EXIT_SIGTERM: "sigterm", EXIT_SIGINT: "sigint"}
        return names.get(self.requested or 0, "stopped")

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            # None: a handler that was not set from Python and cannot be put back from here.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._before.clear()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGTERM:
            self.request(EXIT_SIGTERM)
            return
        if self._interrupted:
            raise KeyboardInterrupt
        self._interrupted = True
        self.request(EXIT_SIGINT)
        with contextlib.suppress(OSError):  # standard error may be closed; the stop counts anyway
            os.write(2, STOPPING)  # not through a buffer that the signal may have interrupted
