"""Single files and folders: written whole, appended by the line, cleaned up after a kill."""

import contextlib
import errno
import os
import re
import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self

from luthier.durable.system import FileSystem, explained, file_system
from luthier.errors import RunExistsError
from luthier.locks import start_of

Chunk = bytes | bytearray | memoryview
# Of whom: process id and start, so that what another live process is writing is left alone.
_STALE = re.compile(
    r"\.(?P<name>.+)\.(?P<pid>\d+)-(?P<start>[\d.]+)\.[0-9a-f]{12}\.luthier-(?P<kind>part|old)"
)
_WRITE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC


def write_atomic(path: Path, data: bytes | str, *, exclusive: bool = False) -> None:
    """Put a whole file at `path`, durably, or leave what was there.

    Args:
        exclusive: Never replace: of several writers at once exactly one succeeds.

    Raises:
        RunExistsError: `exclusive`, and something is there.
        DiskFullError: No space.
        RunError: Any other failure of the file system.
    """
    content = data.encode() if isinstance(data, str) else data
    _write_whole(path, [content], exclusive=exclusive, size=len(content))


def write_stream(path: Path, pieces: Iterable[Chunk], *, exclusive: bool = False) -> None:
    """`write_atomic` of a file too large for memory: what the iterator gives, one behind the other.

    An error of the iterator leaves nothing behind.
    """
    _write_whole(path, pieces, exclusive=exclusive, size=0)


def _write_whole(path: Path, pieces: Iterable[Chunk], *, exclusive: bool, size: int) -> None:
    files, temporary = file_system(), beside(path, "part")
    with explained(path, size):
        try:
            write_file(files, temporary, pieces)
            if exclusive:
                files.link(temporary, path)
                files.unlink(temporary)
            else:
                files.rename(temporary, path)
            sync_folder(files, path.parent)
        except FileExistsError as error:
            raise RunExistsError(f"{path} already exists", why="it is never replaced") from error
        finally:
            discard(files, temporary)


def append_line(path: Path, line: str) -> None:
    """Append one line durably; several processes may do so at once."""
    with AppendFile(path) as file:
        file.append(line, sync=True)


class AppendFile:
    """A file of lines that only grows.  A last line torn by a kill is closed when it is opened.

    Raises:
        DiskFullError: No space; a line that was torn by it is closed by the next append.
        RunError: Any other failure of the file system.
    """

    def __init__(self, path: Path) -> None:
        self.path, self._files = path, file_system()
        with explained(path, 0):
            flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
            self._fd = self._files.open(path, flags)
        size = os.fstat(self._fd).st_size
        self._torn = size > 0 and os.pread(self._fd, 1, size - 1) != b"\n"

    def append(self, line: str, *, sync: bool = False) -> None:
        """Hand the line to the system; `sync` waits until the disk has it."""
        data = (b"\n" if self._torn else b"") + line.encode() + b"\n"
        with explained(self.path, len(data)):
            self._torn = True  # until the line is whole; taking it back could cut another's line
            _write_all(self._files, self._fd, data)
            self._torn = False
            if sync:
                self._files.fsync(self._fd)

    def close(self) -> None:
        """Close the file; twice does no harm."""
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            with explained(self.path, 0):
                self._files.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class GrowingFile:
    """A file that is taken up where it ended, and gets its final name once it is whole.

    For content that comes slowly and may break off, as a download.

    Args:
        path: Where it grows; what is there is kept and continued.

    Raises:
        DiskFullError: No space, here and in every method.
        RunError: Any other failure of the file system, here and in every method.
    """

    def __init__(self, path: Path) -> None:
        self.path, self._files = path, file_system()
        with explained(path, 0):
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
            self._fd = self._files.open(path, flags)

    def append(self, data: Chunk) -> None:
        """Add bytes at the end."""
        with explained(self.path, len(data)):
            _write_all(self._files, self._fd, data)

    def finish(self, final: Path) -> None:
        """Wait until the disk has it, then move it to its final name."""
        with explained(final, 0):
            self._files.fsync(self._fd)
            self.close()
            self._files.rename(self.path, final)
            sync_folder(self._files, final.parent)

    def close(self) -> None:
        """Leave what is there for the next time; twice does no harm."""
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            with explained(self.path, 0):
                self._files.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def remove_folder(path: Path) -> None:
    """Remove a saved folder; a kill half-way leaves nothing under its name."""
    doomed = beside(path, "part")
    with explained(path, 0):
        files = file_system()
        files.rename(path, doomed)
        _remove(files, doomed)


def make_folders(path: Path) -> None:
    """Make a folder and its parents, durably."""
    with explained(path, 0):
        files = file_system()
        for folder in (*reversed(path.parents), path):
            if not folder.exists():
                with contextlib.suppress(FileExistsError):  # made by another process just now
                    files.mkdir(folder)
                    if folder in _private:
                        folder.chmod(0o700)
                sync_folder(files, folder.parent)


_private: set[Path] = set()


def keep_private(folder: Path) -> None:
    """When this folder is made, then for its owner alone; what is in it needs no more."""
    _private.add(folder)


def clean_stale(folder: Path) -> list[Path]:
    """Remove what a killed process left half-written in `folder`; nothing else is touched.

    Only for the one who holds the lock of the run.  A folder that was being replaced when the
    process died gets its old content back.

    Returns:
        The names that were removed.
    """
    removed = []
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if not (match := _STALE.fullmatch(path.name)) or _of_another(match):
            continue
        final = folder / match["name"]
        with explained(path, 0):
            if match["kind"] == "old" and not os.path.lexists(final):
                file_system().rename(path, final)
            else:
                _remove(file_system(), path)
                removed.append(path)
    return removed


def beside(path: Path, kind: str) -> Path:
    """A name in the same folder, for this process, that `clean_stale` knows."""
    pid = os.getpid()
    token = secrets.token_hex(6)
    return path.with_name(f".{path.name}.{pid}-{start_of(pid)}.{token}.luthier-{kind}")


def _of_another(match: re.Match[str]) -> bool:
    pid = int(match["pid"])
    return pid != os.getpid() and start_of(pid) == match["start"]


def write_file(files: FileSystem, path: Path, pieces: Iterable[Chunk], digest: Any = None) -> int:
    size, fd = 0, files.open(path, _WRITE)
    try:
        for piece in pieces:
            size += _write_all(files, fd, piece)
            if digest is not None:
                digest.update(piece)
        files.fsync(fd)
    except BaseException:
        with contextlib.suppress(OSError):  # the first error is the one to be told
            files.close(fd)
        raise
    files.close(fd)
    return size


def _write_all(files: FileSystem, fd: int, data: Chunk) -> int:
    rest = memoryview(data).cast("B")
    size = len(rest)
    while rest:
        written = files.write(fd, rest)
        if written <= 0:
            raise OSError(errno.EIO, "the system wrote nothing")
        rest = rest[written:]
    return size


def sync_folder(files: FileSystem, folder: Path) -> None:
    fd = files.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        files.fsync(fd)
    except OSError as error:
        if error.errno != errno.EINVAL:  # a file system that cannot sync folders says EINVAL
            raise
    finally:
        files.close(fd)


def _remove(files: FileSystem, path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        for child in sorted(path.iterdir()):
            _remove(files, child)
        files.rmdir(path)
    else:
        files.unlink(path)


def discard(files: FileSystem, path: Path) -> None:
    """Tidy up; a failure here hides no error, and `clean_stale` does it at the next start."""
    if os.path.lexists(path):
        with contextlib.suppress(OSError):
            _remove(files, path)
