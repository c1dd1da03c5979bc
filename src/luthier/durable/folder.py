"""Folders that appear whole, with a manifest, and are checked before they are used."""

import hashlib
import json
import os
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from luthier.bounded import decode
from luthier.durable.files import (
    Chunk,
    beside,
    discard,
    make_folders,
    sync_folder,
    write_file,
)
from luthier.durable.system import (
    FileSystem,
    disk_full,
    explain,
    explained,
    file_system,
    require_space,
    too_large,
)
from luthier.errors import CheckpointError, RunExistsError

FORMAT = 1
MANIFEST = "manifest.json"


class NewerFormatError(CheckpointError):
    """A saved folder was written by a newer luthier than this one."""


class DurableFolder:
    """A folder that appears whole under its final name, with a manifest, or not at all.

    `with DurableFolder(final, kind="adapter") as folder:` write with `folder.write`, or let another
    library write into `folder.path`; leaving the block syncs, hashes and publishes.

    Args:
        path: The final name; parents are made.
        kind: What the folder is; stored, and asked for when it is verified.
        record: Plain values stored in the manifest.
        needed_bytes: Checked against the free space first.
        replace: Take the place of a folder of that name; otherwise that is refused.

    Raises:
        DiskFullError: Not enough space, before or during the writing.
        RunExistsError: Something is there and `replace` is false.
        RunError: Any other failure of the file system.
    """

    def __init__(
        self,
        path: Path,
        *,
        kind: str,
        record: Mapping[str, Any] | None = None,
        needed_bytes: int = 0,
        replace: bool = False,
    ) -> None:
        self.final, self.kind, self.record = path, kind, dict(record or {})
        self.path = beside(path, "part")
        self.num_bytes = 0
        self._needed_bytes, self._replace = needed_bytes, replace
        self._files = file_system()
        self._entries: dict[str, dict[str, Any]] = {}

    def write(self, name: str, data: str | Chunk | Iterable[Chunk]) -> None:
        """Write and sync one file; an iterable is written piece by piece, never held whole."""
        target = self.path / name
        pieces: Iterable[Chunk] = (
            [data.encode()]
            if isinstance(data, str)
            else [data]
            if isinstance(data, Chunk)
            else data
        )
        digest = hashlib.sha256()
        with explained(self.final / name, self._needed_bytes):
            for parent in reversed(target.relative_to(self.path).parents[:-1]):
                if not (self.path / parent).exists():
                    self._files.mkdir(self.path / parent)
            size = write_file(self._files, target, pieces, digest)
        self._entries[name] = {"bytes": size, "sha256": digest.hexdigest()}

    def __enter__(self) -> Self:
        if os.path.lexists(self.final) and not self._replace:
            raise RunExistsError(
                f"{self.final} already exists", why="a saved folder is never overwritten"
            )
        with explained(self.final, self._needed_bytes):
            make_folders(self.final.parent)
            require_space(self.final, self._needed_bytes)
            self._files.mkdir(self.path)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if isinstance(error, OSError):
                raise explain(error, self.final, self._needed_bytes) from error
            if error is not None and "(os error 28)" in str(error):  # safetensors' own wording
                raise disk_full(self.final, self._needed_bytes, str(error)) from error
            if error is not None and "(os error 27)" in str(error):
                raise too_large(self.final) from error
            if error is None:
                with explained(self.final, self._needed_bytes):
                    self._publish()
        finally:
            discard(self._files, self.path)

    def _publish(self) -> None:
        folders = [self.path]
        for place, names, leaves in os.walk(self.path):
            folders += [Path(place, name) for name in names]
            for leaf in leaves:
                name = Path(place, leaf).relative_to(self.path).as_posix()
                if name not in self._entries:
                    self._entries[name] = _sync_and_hash(self._files, Path(place, leaf))
        self.num_bytes = sum(entry["bytes"] for entry in self._entries.values())
        body = {
            "format": FORMAT,
            "kind": self.kind,
            "files": dict(sorted(self._entries.items())),
            "record": self.record,
        }
        write_file(self._files, self.path / MANIFEST, [_sealed(body)])
        for folder in reversed(folders):
            sync_folder(self._files, folder)
        self._move_into_place()

    def _move_into_place(self) -> None:
        old = beside(self.final, "old")
        if os.path.lexists(self.final):
            self._files.rename(self.final, old)
        try:
            self._files.rename(self.path, self.final)
        except OSError:
            if old.exists():
                self._files.rename(old, self.final)
            raise
        sync_folder(self._files, self.final.parent)
        discard(self._files, old)


def publish_folder(
    staging: Path,
    final: Path,
    *,
    kind: str,
    record: Mapping[str, Any],
    hashes: Mapping[str, str],
) -> None:
    """Give a folder whose files are already synced its manifest and its final name.

    Args:
        staging: The folder beside `final` that was filled, perhaps over several processes.
        hashes: SHA-256 of every file to be named in the manifest, by its name.

    Raises:
        RunExistsError: Something is there.
        DiskFullError: No space.
        RunError: Any other failure of the file system.
    """
    if os.path.lexists(final):
        raise RunExistsError(f"{final} already exists", why="a saved folder is never overwritten")
    files = file_system()
    entries = {
        name: {"bytes": (staging / name).stat().st_size, "sha256": hashes[name]}
        for name in sorted(hashes)
    }
    body = {"format": FORMAT, "kind": kind, "files": entries, "record": dict(record)}
    with explained(final, 0):
        (staging / MANIFEST).unlink(missing_ok=True)  # of a publication that a kill cut short
        write_file(files, staging / MANIFEST, [_sealed(body)])
        sync_folder(files, staging)
        files.rename(staging, final)
        sync_folder(files, final.parent)


def read_manifest(folder: Path, *, kind: str | None = None) -> dict[str, Any]:
    """The manifest of a saved folder, its own hash checked; the files are not looked at.

    Raises:
        NewerFormatError: It was written by a newer luthier.
        CheckpointError: It is missing, damaged, edited, or of another kind.
    """
    try:
        raw = (folder / MANIFEST).read_bytes()
        body = decode(raw)
        intact = isinstance(body, dict) and raw == _sealed(body)
    except (OSError, ValueError) as error:
        raise _damaged(folder, [f"{MANIFEST} cannot be read: {error}"]) from error
    if not intact:
        raise _damaged(folder, [f"{MANIFEST} does not have its own checksum: damaged or edited"])
    if not _is_manifest(body):
        raise _damaged(folder, [f"{MANIFEST} has parts of another kind than it is written with"])
    if body["format"] > FORMAT:
        raise NewerFormatError(
            f"{folder} has format {body['format']}, this luthier reads up to {FORMAT}",
            why="it was written by a newer version, whose work must not be lost by going back",
            fix="pip install --upgrade luthier",
        )
    if kind is not None and body["kind"] != kind:
        raise _damaged(folder, [f"it is a {body['kind']}, not a {kind}"])
    return dict(body)


def _is_manifest(body: Mapping[str, Any]) -> bool:
    files, record = body.get("files"), body.get("record")
    if type(body.get("format")) is not int or not isinstance(body.get("kind"), str):
        return False
    if not isinstance(files, dict) or not isinstance(record, dict):
        return False
    return all(
        isinstance(entry, dict)
        and type(entry.get("bytes")) is int
        and isinstance(entry.get("sha256"), str)
        for entry in files.values()
    )


def verify_folder(folder: Path, *, kind: str | None = None) -> dict[str, Any]:
    """Check every file of a saved folder against its manifest, and return the manifest.

    Files that the manifest does not name are not looked at.

    Raises:
        NewerFormatError: It was written by a newer luthier.
        CheckpointError: Something is missing or not as it was written; all of it is listed.
    """
    body = read_manifest(folder, kind=kind)
    problems = [
        problem
        for name, entry in body["files"].items()
        if (problem := _problem(folder, name, entry, hashed=True))
    ]
    if problems:
        raise _damaged(folder, problems)
    return body


def looks_complete(folder: Path) -> bool:
    """Whether manifest and file sizes are right; quick, the contents are not read."""
    try:
        body = read_manifest(folder)
    except NewerFormatError:
        return True
    except CheckpointError:
        return False
    return not any(_problem(folder, name, item) for name, item in body["files"].items())


def _sync_and_hash(files: FileSystem, path: Path) -> dict[str, Any]:
    fd = files.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        files.fsync(fd)
    finally:
        files.close(fd)
    return {"bytes": path.stat().st_size, "sha256": hash_file(path)}


def hash_file(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _sealed(body: Mapping[str, Any]) -> bytes:
    """The bytes of a manifest; its checksum is that of the same bytes without the checksum."""
    plain = {name: value for name, value in body.items() if name != "sha256"}
    digest = hashlib.sha256(_canonical(plain)).hexdigest()
    return _canonical({**plain, "sha256": digest})


def _canonical(body: Mapping[str, Any]) -> bytes:
    return json.dumps(body, sort_keys=True, allow_nan=False, indent=1).encode()


def _problem(folder: Path, name: str, entry: Mapping[str, Any], hashed: bool = False) -> str:
    path = folder / name
    try:
        status = path.lstat()
        if not stat.S_ISREG(status.st_mode):
            return f"{name} is not a plain file"
        if status.st_size != entry["bytes"]:
            return f"{name} has {status.st_size:,} bytes instead of {entry['bytes']:,}"
        if hashed and hash_file(path) != entry["sha256"]:
            return f"{name} does not have the checksum it was written with"
    except OSError as error:
        return f"{name}: {error.strerror}"
    return ""


def _damaged(folder: Path, problems: list[str]) -> CheckpointError:
    return CheckpointError(
        f"{folder} is damaged: {'; '.join(problems)}",
        why="every file must be exactly as it was written",
        fix=f"remove it, and what was saved before it is used: rm -r '{folder}'",
    )
