"""The end of a server: signals are its own, from before its first part is there until the last one is closed."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import FrameType

STOPS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)  # the last: the terminal is gone
LAST_S = 4.7
"""A close that takes longer is cut off: whoever stops a service kills it after a while."""


@dataclass
class Stop:
    """Whether the server was told to end.

    Attributes:
        on_stop: Called once, in the main thread, when it is; at once if it was told before.
        gave_up: Called when the close took more than `last_s`, or at a second Ctrl-C.
    """

    last_s: float = LAST_S
    gave_up: Callable[[], None] = lambda: os._exit(1)
    asked: bool = False
    _on_stop: list[Callable[[], None]] = field(default_factory=list)
    _closed: threading.Event = field(default_factory=threading.Event)

    def on_stop(self, act: Callable[[], None]) -> None:
        """What to do then."""
        self._on_stop.append(act)
        if self.asked:
            act()

    def ask(self, number: int, _frame: object = None) -> None:
        """The handler of each signal."""
        if self.asked:
            if number == signal.SIGINT:
                self.gave_up()
            return
        self.asked = True
        threading.Thread(target=self._see_to_it, name="stop", daemon=True).start()
        for act in self._on_stop:
            act()

    def _see_to_it(self) -> None:
        if not self._closed.wait(self.last_s):
            sys.stderr.write(f"not everything was closed after {self.last_s} s: cut off\n")
            self.gave_up()

    def close(self) -> None:
        """Everything is closed."""
        self._closed.set()


Handler = Callable[[int, FrameType | None], object] | int | None


@contextlib.contextmanager
def owned() -> Iterator[Stop]:
    """Signals as `Stop` has them, within the block; elsewhere than in the main thread nothing changes."""
    stop = Stop()
    before: dict[signal.Signals, Handler] = {}
    if threading.current_thread() is threading.main_thread():
        for number in STOPS:
            if signal.getsignal(number) is not signal.SIG_IGN:  # nohup luthier serve
                before[number] = signal.signal(number, stop.ask)
    try:
        yield stop
    finally:
        stop.close()
        for number, handler in before.items():
            signal.signal(number, handler)
