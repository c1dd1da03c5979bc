"""A file system that fails at a chosen operation, in the ways real ones do."""

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from luthier.durable import FileSystem


class Killed(BaseException):
    """The process is dead: nothing after the operation happens, tidying up included."""


class FastFiles(FileSystem):
    """Syncs nothing, so that a thousand saves take a second; order and contents are the same."""

    def fsync(self, fd: int) -> None:
        return None


class FaultyFiles(FastFiles):
    """Fails at operation `fail_at`, counted from 1; `fired` says whether it came to that.

    mode: `once` fails that one operation, `forever` every later one too, `killed` ends the process
    before it, `killed after` behind it.  A write that fails has written half, as on a full disk.
    """

    def __init__(self, fail_at: int, mode: str = "once", error: int = errno.ENOSPC) -> None:
        self.fail_at, self.mode, self.error = fail_at, mode, error
        self.count, self.fired = 0, False
        self.log: list[str] = []

    def _operation(self, name: str, run: Callable[[], Any], half: Callable[[], Any]) -> Any:
        self.count += 1
        if self.fired and self.mode.startswith("killed"):
            raise Killed
        if self.count == self.fail_at or (self.fired and self.mode == "forever"):
            self.fired = True
            if self.mode == "killed after":
                run()
            else:
                half()
            raise Killed if self.mode.startswith("killed") else OSError(self.error, "injected")
        return run()

    def write(self, fd: int, data: memoryview) -> int:
        written: int = self._operation(
            "write", lambda: os.write(fd, data), lambda: os.write(fd, data[: len(data) // 2])
        )
        return written

    def close(self, fd: int) -> None:
        self._operation("close", lambda: os.close(fd), lambda: os.close(fd))


def _plain(name: str) -> Callable[..., Any]:
    def method(self: FaultyFiles, *arguments: Any) -> Any:
        real = getattr(FastFiles, name)
        return self._operation(name, lambda: real(self, *arguments), lambda: None)

    return method


for _name in ("open", "fsync", "mkdir", "rename", "link", "unlink", "rmdir"):
    setattr(FaultyFiles, _name, _plain(_name))


class ShortWrites(FastFiles):
    """Every write writes a few bytes only."""

    def write(self, fd: int, data: memoryview) -> int:
        return os.write(fd, data[:7])


MODES = ("once", "forever", "killed", "killed after")


def every_fault(error: int = errno.ENOSPC, modes: tuple[str, ...] = MODES) -> Iterator[FaultyFiles]:
    """Fail at the first operation, the second, and so on until the work ends without a fault."""
    for mode in modes:
        k = 0
        while True:
            k += 1
            files = FaultyFiles(k, mode, error)
            yield files
            if not files.fired:
                break
        assert k > 3, "no operation was instrumented"


def leftovers(folder: Path) -> list[str]:
    """Names that only an interrupted write makes."""
    return [path.name for path in folder.iterdir() if ".luthier-" in path.name]
