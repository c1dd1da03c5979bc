"""Who is working here: lock files that a dead process cannot hold.

The system's own file lock decides, and goes away with the process that holds it.  The file also
says who that is, so that others can be told and can see whether the owner still lives: a process
is known by its id, the moment it started and the boot it belongs to, since ids are used again.
"""

import contextlib
import errno
import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import psutil

from luthier.bounded import decode

_UNSUPPORTED = {errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS}
_PATIENCE_S, _PAUSE_S = 0.3, 0.02


@dataclass(frozen=True, slots=True)
class Owner:
    """A process, so named that no later one can be taken for it."""

    pid: int
    start: str  # when it started, in the finest unit the system has
    boot: str
    host: str
    what: str = ""  # what it does with what it holds, in words

    @classmethod
    def of(cls, pid: int) -> "Owner | None":
        """The live process of that id, if there is one."""
        start = start_of(pid)
        return cls(pid, start, _boot(), socket.gethostname()) if start else None

    @property
    def alive(self) -> bool:
        """Whether it still runs on this machine."""
        now = Owner.of(self.pid) if self.pid > 0 else None
        return now is not None and (now.start, now.boot) == (self.start, self.boot)

    @property
    def number_is_its_own(self) -> bool:
        """Whether its id still means nobody else: no other process has it, nor was there a reboot.

        The system gives an id to nobody while a session that bears it has members.
        """
        return self.boot == _boot() and start_of(self.pid) in ("", self.start)


def read_owner(path: Path) -> Owner | None:
    """Who last took the lock at `path` and has not given it back; None if nobody, or unreadable."""
    try:
        body = decode(path.read_bytes())
        start, boot, host = (str(body[name]) for name in ("start", "boot", "host"))
        return Owner(int(body["pid"]), start, boot, host, str(body.get("what", "")))
    except (OSError, ValueError, TypeError, KeyError):
        return None


class TakenError(Exception):
    """The lock is held.  `owner` is None where the file does not say by whom."""

    def __init__(self, owner: Owner | None) -> None:
        super().__init__(owner)
        self.owner = owner


@contextlib.contextmanager
def hold(path: Path, *, what: str = "") -> Iterator[None]:
    """Hold the lock at `path`.  The file stays when it is given back: removing it would race.

    Args:
        what: What is done with it, for whoever finds it held.

    Raises:
        TakenError: Another live process, or another place in this one, holds it.
    """
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        if not _take(fd, path) and (owner := read_owner(path)) is not None and owner.alive:
            raise TakenError(owner)
        me = Owner.of(os.getpid())
        assert me is not None
        _write(fd, json.dumps(asdict(replace(me, what=what))).encode())
        try:
            yield
        finally:
            _write(fd, b"")
            with contextlib.suppress(OSError):  # a file system without locks has none to give back
                fcntl.flock(fd, fcntl.LOCK_UN)  # closing alone leaves it with a forked child
    finally:
        os.close(fd)


def _take(fd: int, path: Path) -> bool:
    """Whether the system's lock was got; false where this file system has none."""
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = read_owner(path)
            if time.monotonic() >= deadline or (owner is not None and owner.alive):
                raise TakenError(owner) from None
            time.sleep(_PAUSE_S)  # the owner is about to write its name, or to go
        except OSError as error:
            if error.errno not in _UNSUPPORTED:
                raise
            return False
        else:
            return True


def _write(fd: int, content: bytes) -> None:
    os.ftruncate(fd, 0)
    os.pwrite(fd, content, 0)


def start_of(pid: int) -> str:
    """When a process started, in the finest unit the system has; empty if it does not live."""
    if not Path("/proc/self/stat").exists():
        try:
            return f"{psutil.Process(pid).create_time():.2f}"
        except psutil.Error:
            return ""
    try:
        # Field 22 counts clock ticks since boot: unlike a date, no change of the clock moves it.
        text = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
    except (FileNotFoundError, ProcessLookupError):
        return ""
    state, *fields = text.rpartition(")")[2].split()
    return "" if state == "Z" else fields[18]


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        return f"{psutil.boot_time():.0f}"
