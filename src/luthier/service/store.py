"""The service's database: SQLite, one writer, every commit on the disk before it is acknowledged.

What is in it can be read by anybody with `sqlite3` while the service works.  Only one server may
work in a data folder: the store holds a lock for as long as it is open, and the system takes it
back from a process that is killed.
"""

import contextlib
import json
import os
import re
import sqlite3
import sys
import threading
from collections.abc import Iterator, Sequence
from importlib import resources
from pathlib import Path
from typing import Self

from luthier import locks
from luthier.durable import free_bytes, make_folders, write_atomic
from luthier.errors import DiskFullError, LuthierError, ServerRunningError, StoreError
from luthier.runs import home as default_home
from luthier.units import format_bytes

BUSY_TIMEOUT_S = 10.0
NETWORK = re.compile(
    r"nfs\d?|cifs|smb\d?|smbfs|afs|ceph|glusterfs|lustre|gpfs|beegfs|fuse\.(sshfs|s3fs|rclone|gcsfuse)"
)
"""File systems whose shared memory does not reach other machines, so that WAL would lose data."""

_LOW_SPACE_BYTES = 8 * 2**20


class Store:
    """The open database of one data folder.

    Args:
        home: The data folder; `LUTHIER_HOME` by default.
        address: Where this server listens, told to a second one that is refused.

    Raises:
        ServerRunningError: Another live process has it open.
        StoreError: Damaged, made by a newer version, or on a network file system.
    """

    def __init__(self, home: Path | None = None, *, address: str = "") -> None:
        self.home = (home or default_home()).absolute()
        self.folder = self.home / "service"
        self.path = self.folder / "jobs.sqlite"
        make_folders(self.folder)
        self._lock = threading.RLock()
        self._stack = contextlib.ExitStack()
        refuse_network(self.folder)
        with contextlib.ExitStack() as opening:
            opening.enter_context(self._only_server())
            self.set_address(address)
            self._connection = self._connect()
            opening.callback(self._connection.close)
            self._check()
            self._migrate()
            self._stack = opening.pop_all()

    @contextlib.contextmanager
    def _only_server(self) -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(locks.hold(self.folder / "server.lock"))
            except locks.TakenError as taken:
                who = f"process {taken.owner.pid}" if taken.owner else "another process"
                where = self._address_file.read_text("utf-8") if self._address_file.exists() else ""
                raise ServerRunningError(
                    f"{who} already serves {self.home}" + (f" at {where}" if where else ""),
                    why="one server at a time may work in a data folder",
                    fix="use that one, stop it, or give this one a folder of its own: "
                    "export LUTHIER_HOME=/another/folder",
                ) from taken
            yield

    @property
    def _address_file(self) -> Path:
        return self.folder / "address"

    def set_address(self, address: str) -> None:
        """Say where this server listens."""
        write_atomic(self._address_file, address)

    def _connect(self) -> sqlite3.Connection:
        try:
            connection = sqlite3.connect(
                self.path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
            )
        except sqlite3.DatabaseError as error:
            raise self._damaged(str(error)) from error
        connection.row_factory = sqlite3.Row
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            # NORMAL may lose the last acknowledged job when the power fails.
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA foreign_keys = ON")
        except sqlite3.DatabaseError as error:
            connection.close()
            raise self._damaged(str(error)) from error
        os.chmod(self.path, 0o600)
        return connection

    def _check(self) -> None:
        try:
            found = [row[0] for row in self._connection.execute("PRAGMA quick_check(3)")]
        except sqlite3.DatabaseError as error:
            raise self._damaged(str(error)) from error
        if found != ["ok"]:
            raise self._damaged("; ".join(map(str, found)))

    def _damaged(self, reason: str) -> StoreError:
        backups = sorted(self.folder.glob("jobs.sqlite.before-*"))
        backup = f"; the last copy is {backups[-1]}" if backups else ""
        return StoreError(
            f"{self.path} is damaged: {reason}",
            why=f"the queue cannot be trusted then{backup}; runs and results are intact",
            fix=f"move it away and start again: mv {self.path} {self.path}.damaged",
        )

    def _migrate(self) -> None:
        """Bring an older database up to date; a copy of it is kept."""
        steps = migrations()
        version = self._connection.execute("PRAGMA user_version").fetchone()[0]
        if version < 0:
            raise self._damaged(f"its version is {version}")
        if version > len(steps):
            raise StoreError(
                f"{self.path} has version {version}, this luthier knows {len(steps)}",
                why="it was written by a newer version",
                fix="pip install --upgrade luthier",
            )
        if version == len(steps):
            return
        if version:
            self.backup(self.folder / f"jobs.sqlite.before-{version + 1:04d}")
        for number in range(version, len(steps)):
            script = (
                f"BEGIN IMMEDIATE;\n{steps[number]}\nPRAGMA user_version = {number + 1};\nCOMMIT;"
            )
            try:
                self._connection.executescript(script)
            except sqlite3.Error as error:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise self._damaged(
                    f"step {number + 1} of the migration failed: {error}"
                ) from error

    def backup(self, target: Path) -> None:
        """A whole copy of the database at `target`, consistent while others write."""
        part = target.with_name(f".{target.name}.part")
        with contextlib.closing(sqlite3.connect(part)) as copy, self._lock:
            self._connection.backup(copy)
        part.replace(target)

    @contextlib.contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """One transaction: all of it is on the disk when this ends, or nothing is.

        Raises:
            DiskFullError: No space; nothing was accepted.
            StoreError: Any other failure of the database.
        """
        with self._lock:
            if self._connection.in_transaction:  # the same thread, further out
                yield self._connection
                return
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException as error:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                if isinstance(error, sqlite3.OperationalError | sqlite3.DatabaseError):
                    if isinstance(error, sqlite3.IntegrityError):
                        raise
                    raise self._explain(error) from error
                raise

    def read(self, query: str, values: Sequence[object] = ()) -> list[sqlite3.Row]:
        """Rows of a query."""
        with self._lock:
            try:
                return self._connection.execute(query, tuple(values)).fetchall()
            except sqlite3.OperationalError as error:
                raise self._explain(error) from error

    def _explain(self, error: sqlite3.Error) -> LuthierError:
        text = str(error)
        full = "disk is full" in text or (
            "I/O error" in text and free_bytes(self.folder) < _LOW_SPACE_BYTES
        )
        if full:
            return DiskFullError(
                f"disk full: {self.path} cannot be written, {format_bytes(free_bytes(self.folder))} is free",
                why="nothing was accepted; what was there before is intact",
                fix="free some space and try again",
            )
        return StoreError(
            f"{self.path}: {text}",
            why=f"another program may hold it; waited {BUSY_TIMEOUT_S:g} s"
            if "locked" in text
            else "",
            fix="try again; sqlite3 or a backup program may have it open",
        )

    def close(self) -> None:
        """Close the database and give the folder back; twice does no harm."""
        with self._lock:
            self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def migrations() -> list[str]:
    """The steps of the schema, oldest first; the number in a name is the version it leads to."""
    folder = resources.files("luthier.service") / "migrations"
    found = sorted(
        (entry for entry in folder.iterdir() if entry.name.endswith(".sql")), key=lambda e: e.name
    )
    for number, entry in enumerate(found, start=1):
        assert entry.name.startswith(f"{number:04d}_"), entry.name
    return [entry.read_text("utf-8") for entry in found]


def refuse_network(folder: Path, mounts: str | None = None) -> None:
    """Refuse a folder on a network file system, as far as the system says what it is.

    Args:
        mounts: The text of `/proc/self/mountinfo`; read where it exists.

    Raises:
        StoreError: It is one.
    """
    if mounts is None:
        if not sys.platform.startswith("linux"):
            return
        mounts = Path("/proc/self/mountinfo").read_text("utf-8", "replace")
    best, kind = "", ""
    for line in mounts.splitlines():
        left, _, right = line.partition(" - ")
        place = left.split()[4].replace("\\040", " ")
        inside = folder == Path(place) or Path(place) in folder.parents
        if inside and len(place) >= len(best):
            best, kind = place, right.split()[0]
    if NETWORK.fullmatch(kind):
        raise StoreError(
            f"{folder} is on a network file system ({kind} at {best})",
            why="the database needs memory shared between processes and locks that a killed process "
            "cannot keep; network file systems promise neither",
            fix="export LUTHIER_HOME=/a/folder/on/a/local/disk",
        )


def to_json(value: object) -> str:
    """A value as it is stored: compact, no NaN."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
