"""The system calls that change the disk, behind one seam, and what it means when one fails."""

import contextlib
import errno
import os
import resource
import shutil
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path

from luthier.errors import DiskFullError, LuthierError, RunError
from luthier.units import format_bytes

_FULL = {errno.ENOSPC, errno.EDQUOT}


class FileSystem:
    """The system calls that change the disk, one method each, so that a test can fail any of them."""

    def open(self, path: Path, flags: int) -> int:
        return os.open(path, flags, 0o666)

    def write(self, fd: int, data: memoryview) -> int:
        return os.write(fd, data)

    def fsync(self, fd: int) -> None:
        os.fsync(fd)

    def close(self, fd: int) -> None:
        os.close(fd)

    def mkdir(self, path: Path) -> None:
        path.mkdir()

    def rename(self, source: Path, target: Path) -> None:
        source.replace(target)

    def link(self, source: Path, target: Path) -> None:
        os.link(source, target)

    def unlink(self, path: Path) -> None:
        path.unlink()

    def rmdir(self, path: Path) -> None:
        path.rmdir()

    def free_bytes(self, path: Path) -> int:
        return shutil.disk_usage(path).free


_REAL = FileSystem()
_current: ContextVar[FileSystem] = ContextVar("file_system", default=_REAL)


def file_system() -> FileSystem:
    """What this context writes through."""
    return _current.get()


@contextlib.contextmanager
def using(files: FileSystem) -> Iterator[None]:
    """Make this context write through another `FileSystem`."""
    token = _current.set(files)
    try:
        yield
    finally:
        _current.reset(token)


def free_bytes(path: Path) -> int:
    """Bytes that this user may still write where `path` is, or would be."""
    there = path.absolute()
    while not there.exists() and there != there.parent:
        there = there.parent
    return file_system().free_bytes(there)


def require_space(path: Path, needed_bytes: int) -> None:
    """Refuse before anything is written.

    Raises:
        DiskFullError: Fewer than `needed_bytes` are free.
    """
    if needed_bytes > free_bytes(path):
        raise disk_full(path, needed_bytes, "checked before writing, nothing was touched")


def explain(error: OSError, path: Path, needed_bytes: int) -> LuthierError:
    """What a failed write means to a person.

    Returns:
        DiskFullError for a full disk, an exhausted quota or a file size limit; RunError otherwise.
    """
    reason = os.strerror(error.errno) if error.errno else str(error)
    if error.errno == errno.EFBIG:
        return too_large(path)
    if error.errno in _FULL:
        return disk_full(path, needed_bytes, reason)
    return RunError(
        f"{path} could not be written: {reason}",
        why="nothing incomplete was left under that name; what was there before is intact",
        fix="check that the folder may be written to and that the disk is healthy, then go on "
        "with --resume true",
    )


def disk_full(path: Path, needed_bytes: int, reason: str) -> DiskFullError:
    try:
        free = format_bytes(free_bytes(path))
    except OSError as error:
        free = f"an unknown amount ({error.strerror})"
    return DiskFullError(
        f"disk full: {path} needs {format_bytes(needed_bytes)}, {free} is free",
        why=f"{reason}; what was saved before is intact",
        fix="free some space and go on with --resume true, or save less: --save_total_limit 1",
    )


def too_large(path: Path) -> DiskFullError:
    """What EFBIG means: the disk may have room, this process may not use it for one file."""
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    said = "no limit" if limit == resource.RLIM_INFINITY else format_bytes(limit)
    return DiskFullError(
        f"{path} would be larger than a file may be here",
        why=f"the limit of this process is {said} (ulimit -f), and the file system may have one of "
        "its own; what was saved before is intact",
        fix="ulimit -f unlimited, then go on with --resume true",
    )


@contextlib.contextmanager
def explained(path: Path, needed_bytes: int) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise explain(error, path, needed_bytes) from error
