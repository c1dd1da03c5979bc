"""Uploaded files: streamed to the disk, whole or absent, under names that the service makes.

What the client calls a file is only ever shown; a path is made from the id alone.
"""

import hashlib
import os
import re
import secrets
import sqlite3
import time
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from luthier.bounded import decode_ours
from luthier.durable import clean_stale, free_bytes, make_folders
from luthier.durable.files import beside, discard, sync_folder
from luthier.durable.system import disk_full, explained, file_system
from luthier.errors import (
    ServiceError,
    SettingsError,
    UploadInUseError,
    UploadNotFoundError,
    UploadTooLargeError,
)
from luthier.limits import UPLOAD_BYTES
from luthier.service.states import LIVE
from luthier.service.store import Store, to_json
from luthier.units import format_bytes

CHUNK_BYTES = 2**20
RESERVE_BYTES = 256 * 2**20
"""Disk space an upload leaves to running jobs, which have checkpoints to write."""

PURPOSES = (
    "fine-tune", "fine-tune-results", "user_data", "evals", "assistants", "batch", "vision",
)  # fmt: skip
_ENDINGS = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".txt", ".parquet")
_ID = re.compile(r"file-[0-9A-Za-z]{24}")
_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True, slots=True)
class File:
    """An uploaded file.

    Args:
        filename: What the client called it, made safe to show; never a path.
        created_at: Seconds since the epoch.
        columns: Our names for those of its columns, where somebody said so.
    """

    id: str
    filename: str
    purpose: str
    bytes: int
    sha256: str
    created_at: float
    columns: Mapping[str, str] | None = None


class Files:
    """The uploaded files of a data folder.

    Args:
        max_bytes: Largest upload.
        reserve_bytes: Disk space that stays free.
    """

    def __init__(
        self, store: Store, *, max_bytes: int = UPLOAD_BYTES, reserve_bytes: int = RESERVE_BYTES
    ) -> None:
        self.store, self.max_bytes, self.reserve_bytes = store, max_bytes, reserve_bytes
        self.folder = store.folder / "files"
        make_folders(self.folder)
        self._sweep()

    def add(
        self, stream: BinaryIO | Iterable[bytes], filename: str, purpose: str = "fine-tune"
    ) -> File:
        """Take a file in; it exists when this returns, and not at all if it raises.

        Args:
            stream: The bytes: something with `read`, or pieces.
            filename: What the client calls it.

        Raises:
            ServiceError: The purpose is unknown.
            UploadTooLargeError: More than `max_bytes`.
            DiskFullError: It does not fit.
        """
        if purpose not in PURPOSES:
            raise ServiceError(
                f"purpose={purpose[:60]!r} is not a purpose of a file",
                why=f"it is one of {', '.join(PURPOSES)}",
                fix="purpose=fine-tune",
            )
        label = safe_label(filename)
        id = new_id("file-")
        target = self.folder / f"{id}{_ending(label)}"
        part = beside(target, "part")
        files = file_system()
        try:
            size, digest = self._stream(stream, part)
            with explained(target, size):
                files.rename(part, target)
                sync_folder(files, self.folder)
            file = File(id, label, purpose, size, digest, time.time())
            try:
                with self.store.write() as connection:
                    connection.execute(
                        "INSERT INTO files (id, filename, stored, purpose, bytes, sha256, created_at)"
                        " VALUES (?, ?, ?, ?, ?, ?, ?)",
                        (id, label, target.name, purpose, size, digest, file.created_at),
                    )
            except BaseException:
                discard(files, target)
                raise
        finally:
            discard(files, part)
        return file

    def _stream(self, stream: BinaryIO | Iterable[bytes], part: Path) -> tuple[int, str]:
        size, digest, files = 0, hashlib.sha256(), file_system()
        fd = files.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            for piece in _pieces(stream):
                size += len(piece)
                if size > self.max_bytes:
                    raise UploadTooLargeError(
                        f"the file is larger than {format_bytes(self.max_bytes)}",
                        why="the service takes no larger one",
                        fix="split it, or start the service with a higher limit",
                    )
                if free_bytes(self.folder) < self.reserve_bytes + len(piece):
                    reason = f"{format_bytes(self.reserve_bytes)} stay free for running jobs"
                    raise disk_full(self.folder, size, reason)
                digest.update(piece)
                rest = memoryview(piece)
                with explained(part, size):
                    while rest:
                        rest = rest[files.write(fd, rest) :]
            with explained(part, size):
                files.fsync(fd)
        finally:
            files.close(fd)
        return size, digest.hexdigest()

    def get(self, id: str) -> File:
        """The file of an id.

        Raises:
            UploadNotFoundError: There is none.
        """
        rows = (
            self.store.read("SELECT * FROM files WHERE id = ?", (id,)) if _ID.fullmatch(id) else []
        )
        if not rows:
            raise UploadNotFoundError(
                f"there is no file {id[:60]!r}",
                why="an id is what an upload answers with",
                fix="GET /v1/files lists them",
            )
        return _file_of(rows[0])

    def keep_columns(self, id: str, columns: Mapping[str, str] | None) -> File:
        """Keep with a file how its columns are read; None forgets it.

        Raises:
            UploadNotFoundError: There is no such file.
        """
        self.get(id)
        with self.store.write() as connection:
            kept = to_json(dict(columns)) if columns else None
            connection.execute("UPDATE files SET columns = ? WHERE id = ?", (kept, id))
        return self.get(id)

    def columns_of(self, ids: Iterable[str]) -> dict[str, str] | None:
        """How files are read that are learned together; None where nothing was said.

        Raises:
            SettingsError: They are read in different ways.
        """
        kept = {id: self.get(id).columns for id in ids}
        ways = [dict(columns) for columns in kept.values() if columns]
        if any(way != ways[0] for way in ways):
            raise SettingsError(
                f"columns: {' and '.join(kept)} are read with different columns",
                why="one run reads all its files in one way",
                fix="make a repaired copy of each, which needs no columns",
            )
        return ways[0] if ways else None

    def path(self, id: str) -> Path:
        """Where the bytes of a file are.

        Raises:
            UploadNotFoundError: There is no such file, or its bytes are gone.
        """
        self.get(id)
        stored = self.store.read("SELECT stored FROM files WHERE id = ?", (id,))[0]["stored"]
        path = self.folder / str(stored)
        if not path.is_file() or path.is_symlink():
            raise UploadNotFoundError(
                f"the bytes of {id} are gone",
                why="they were removed on the disk",
                fix="upload it again",
            )
        return path

    def list(
        self,
        *,
        purpose: str | None = None,
        after: str | None = None,
        limit: int = 100,
        order: str = "desc",
    ) -> tuple[list[File], bool]:
        """Files, newest first unless `order` is `asc`, and whether there are more.

        Args:
            after: Id of the last file of the page before.
        """
        down = order != "asc"
        where, values = ["1"], list[object]()
        if purpose is not None:
            where.append("purpose = ?")
            values.append(purpose)
        if after is not None:
            self.get(after)
            where.append(f"number {'<' if down else '>'} (SELECT number FROM files WHERE id = ?)")
            values.append(after)
        rows = self.store.read(
            f"SELECT * FROM files WHERE {' AND '.join(where)}"
            f" ORDER BY number {'DESC' if down else 'ASC'} LIMIT ?",
            (*values, limit + 1),
        )
        return [_file_of(row) for row in rows[:limit]], len(rows) > limit

    def delete(self, id: str) -> None:
        """Remove a file.

        Raises:
            UploadNotFoundError: There is none.
            UploadInUseError: A job that has not ended reads it.
        """
        self.get(id)
        with self.store.write() as connection:
            marks = ", ".join("?" * len(LIVE))
            users = connection.execute(
                "SELECT jobs.id FROM job_files JOIN jobs ON jobs.id = job_files.job"
                f" WHERE file = ? AND state IN ({marks})",
                (id, *sorted(LIVE)),
            ).fetchall()
            if users:
                names = ", ".join(row["id"] for row in users[:3])
                raise UploadInUseError(
                    f"{id} is read by {len(users)} job(s) that have not ended: {names}",
                    why="a job reads its data again when it is resumed",
                    fix=f"luthier jobs cancel {users[0]['id']}",
                )
            stored = connection.execute("SELECT stored FROM files WHERE id = ?", (id,)).fetchone()
            if stored is not None:
                connection.execute("DELETE FROM files WHERE id = ?", (id,))
        if stored is not None:
            discard(file_system(), self.folder / stored["stored"])

    def _sweep(self) -> None:
        """Remove uploads that a kill cut short, and bytes that no row knows."""
        clean_stale(self.folder)
        known = {row["stored"] for row in self.store.read("SELECT stored FROM files")}
        for path in self.folder.glob("file-*"):
            if path.name not in known:
                discard(file_system(), path)


def _pieces(stream: BinaryIO | Iterable[bytes]) -> Iterable[bytes]:
    read = getattr(stream, "read", None)
    return iter(lambda: read(CHUNK_BYTES), b"") if read is not None else stream


def _file_of(row: sqlite3.Row) -> File:
    return File(
        row["id"],
        row["filename"],
        row["purpose"],
        row["bytes"],
        row["sha256"],
        row["created_at"],
        decode_ours(row["columns"]) if row["columns"] else None,
    )


def safe_label(text: str) -> str:
    """A name to show: its last part, without control or direction marks, at most 200 characters."""
    last = re.split(r"[/\\]", text)[-1]
    kept = "".join(c for c in last if unicodedata.category(c) not in {"Cc", "Cf", "Cs", "Co", "Cn"})
    if len(kept) > 200:
        stem, dot, ending = kept.rpartition(".")
        kept = stem[:180] + dot + ending[:10] if dot else kept[:200]
    return kept.strip(" .") or "file"


def _ending(label: str) -> str:
    lower = label.lower()
    packed = ".gz" if lower.endswith(".gz") else ""
    bare = lower.removesuffix(".gz")
    return next((e for e in _ENDINGS if bare.endswith(e)), ".jsonl") + packed


def new_id(prefix: str) -> str:
    """An id nobody can guess: the prefix and 24 letters or digits."""
    return prefix + "".join(secrets.choice(_ALPHABET) for _ in range(24))
