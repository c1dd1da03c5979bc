"""Fetching the files of a model: taken up where they broke off, checked, whole or not there.

Files grow in a folder `NAME.part` beside the final one, each under a name that carries its checksum.
A file gets its own name when its checksum is right, and the folder when all files are there, so a
folder under its final name is a complete model with a manifest.
"""

import contextlib
import hashlib
import itertools
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from luthier import locks
from luthier.durable import (
    GrowingFile,
    free_bytes,
    looks_complete,
    make_folders,
    publish_folder,
    remove_folder,
)
from luthier.errors import DamagedWeightsError, DiskFullError, HubError, LuthierError
from luthier.sources.http import BrokenOffError, Client, StatusError, read_pieces
from luthier.sources.hub import (
    RemoteFile,
    RemoteModel,
    index_file,
    refusal,
    text_files,
    weight_files,
)
from luthier.units import format_bytes

KIND = "model"
ATTEMPTS = 5
"""Tries in a row that bring not one byte, before a download is given up; what came is kept."""
QUESTIONS = 3
"""Tries of the first question, which tells soon whether there is a hub at all."""
_PIECE_BYTES = 2**20
_SPARE_BYTES = 64 * 2**20
_LONGEST_PAUSE_S = 30.0

Progress = Callable[[str, int, int], None]
"""Told the file in progress, the bytes at hand, and the bytes of all files."""


def _silent(name: str, done: int, total: int) -> None:
    """Nobody is watching."""


def _no_look(folder: Path) -> None:
    """Whatever it is, it is wanted."""


@dataclass(frozen=True, slots=True)
class Fetcher:
    """How to fetch.

    Args:
        client: Asks the endpoint.
        attempts: Tries in a row without a byte.
        pause_s: Before the second try; doubled for each further one.
        progress: Told about every piece.
    """

    client: Client
    attempts: int = ATTEMPTS
    pause_s: float = 1.0
    progress: Progress = _silent

    def ask(self, question: Callable[[], RemoteModel]) -> RemoteModel:
        """The answer to a question that may be asked again.

        Raises:
            HubError: The hub cannot be reached, or goes on failing.
        """
        for attempt in itertools.count(1):
            try:
                return question()
            except (BrokenOffError, StatusError) as error:
                if attempt == QUESTIONS:
                    raise self._given_up(error, attempt, "nothing was written") from error
                self.wait(attempt, error)
        raise AssertionError("counting does not end")

    def wait(self, attempt: int, error: Exception) -> None:
        """Pause before another try, as long as the hub asks for."""
        asked = error.retry_after if isinstance(error, StatusError) else ""
        pause = float(asked) if asked.isdigit() else self.pause_s * 2 ** (attempt - 1)
        time.sleep(min(pause, _LONGEST_PAUSE_S))

    def _given_up(self, error: Exception, attempts: int, kept: str) -> HubError:
        if isinstance(error, StatusError):
            reason = f"it answers with status {error.status}"
        else:
            reason = str(error)
        return HubError(
            f"{self.client.host} cannot be used: {reason}, {attempts} times in a row",
            why=kept,
            fix="check the network and try again, or: --mirror URL, --modelscope, --timeout SECONDS",
        )

    def fetch(
        self, model: RemoteModel, final: Path, inspect: Callable[[Path], None] = _no_look
    ) -> Path:
        """Bring a model to `final`; does nothing where it is complete already.

        Args:
            inspect: Called with the folder once config and tokenizer are in it, before the
                weights are fetched; raises where they are not wanted.

        Raises:
            DiskFullError: It does not fit, looked at before the first byte and while writing.
            DamagedWeightsError: A file does not have its checksum; it is removed.
            HubError: The hub fails; what came is kept, and the next call goes on from there.
            UnsafeWeightsError, ModelError: There are no weights that luthier reads.
        """
        if looks_complete(final):
            return final
        staging = final.with_name(final.name + ".part")
        make_folders(staging.parent)
        with _alone(final):
            if looks_complete(final):  # another process brought it while this one waited
                return final
            make_folders(staging)
            with _told(final):
                hashes = self._fetch_files(model, staging, inspect)
                record = {
                    "hub": model.hub,
                    "revision": model.revision,
                    "endpoint": model.endpoint,
                }
                publish_folder(staging, final, kind=KIND, record=record, hashes=hashes)
        return final

    def _fetch_files(
        self, model: RemoteModel, staging: Path, inspect: Callable[[Path], None]
    ) -> dict[str, str]:
        index = index_file(model)
        if index is None:
            weight_files(model, None)  # refused before a byte is fetched
        first = [*text_files(model), *([index] if index else [])]
        hashes = self._fetch_some(model, first, staging, before=0)
        try:
            inspect(staging)
        except LuthierError:
            remove_folder(staging)  # small files of a model that is not wanted
            raise
        content = (staging / index.name).read_bytes() if index else None
        before = sum(file.num_bytes for file in first)
        hashes |= self._fetch_some(model, weight_files(model, content), staging, before=before)
        for left in staging.iterdir():
            if left.name not in hashes:  # of another revision, or of an index that has changed
                left.unlink()
        return hashes

    def _fetch_some(
        self,
        model: RemoteModel,
        wanted: Iterable[RemoteFile],
        staging: Path,
        *,
        before: int,
    ) -> dict[str, str]:
        files = sorted(wanted, key=lambda file: (file.num_bytes, file.name))
        for file in files:
            if not file.digest:
                raise HubError(
                    f"{self.client.host} gives no size or checksum of {file.name}",
                    why="a file that cannot be checked is not fetched",
                    fix="use the hub itself or another mirror: --mirror URL",
                )
        total = before + sum(file.num_bytes for file in files)
        _require_space(staging, sum(file.num_bytes - _at_hand(staging, file) for file in files))
        hashes = {}
        for file in files:

            def told(done: int, before: int = before, name: str = file.name) -> None:
                self.progress(name, before + done, total)

            hashes[file.name] = self._one(model, file, staging, told)
            before += file.num_bytes
        return hashes

    def _one(
        self, model: RemoteModel, file: RemoteFile, staging: Path, told: Callable[[int], None]
    ) -> str:
        """Fetch one file and return its SHA-256."""
        done = staging / file.name
        if done.is_file() and done.stat().st_size == file.num_bytes:
            digest = _Digest(file)
            digest.read(done)
            if digest.right:
                told(file.num_bytes)
                return digest.sha256
        part = staging / _part_name(file)
        digest = self._grow(model, file, part, told)
        if not digest.right:
            part.unlink()
            raise DamagedWeightsError(
                f"{file.name} of {model.hub} does not have its checksum",
                why=f"{file.kind} should be {file.digest[:16]}..., it is {digest.found[:16]}...; "
                "it was removed",
                fix="pull again, from the hub itself or from another mirror: --mirror URL",
            )
        with GrowingFile(part) as whole:
            whole.finish(done)
        return digest.sha256

    def _grow(
        self, model: RemoteModel, file: RemoteFile, part: Path, told: Callable[[int], None]
    ) -> "_Digest":
        """Let a partial file grow to its full size, over as many connections as it takes."""
        digest = _Digest(file)
        if part.is_file():
            if part.stat().st_size > file.num_bytes:
                part.unlink()
            else:
                digest.read(part)
        attempt = 0
        with GrowingFile(part) as growing:
            while digest.size < file.num_bytes:
                before = digest.size
                try:
                    self._stream(model, file, growing, digest, told)
                    broken: Exception = BrokenOffError(
                        f"{file.name} ended after {digest.size:,} of {file.num_bytes:,} bytes"
                    )
                except StatusError as error:
                    if not error.passing:
                        raise refusal(error, model.hub, self.client.host) from error
                    broken = error
                except BrokenOffError as error:
                    broken = error
                if digest.size >= file.num_bytes:
                    break
                attempt = 1 if digest.size > before else attempt + 1
                if attempt >= self.attempts:
                    kept = f"{digest.size:,} of {file.num_bytes:,} bytes of {file.name} are kept; pull again goes on there"
                    raise self._given_up(broken, attempt, kept) from broken
                self.wait(attempt, broken)
        return digest

    def _stream(
        self,
        model: RemoteModel,
        file: RemoteFile,
        growing: GrowingFile,
        digest: "_Digest",
        told: Callable[[int], None],
    ) -> None:
        """Append what one connection brings, and not a byte more than the file has."""
        with self.client.open(model.path_of(file), start=digest.size) as answer:
            skip = _skipped(answer.status, answer.headers.get("Content-Range"), digest.size)
            pieces = read_pieces(answer, piece_bytes=_PIECE_BYTES, timeout_s=self.client.timeout_s)
            for piece in pieces:
                fresh = piece[skip:]
                skip -= len(piece) - len(fresh)
                if digest.size + len(fresh) > file.num_bytes:
                    growing.path.unlink()
                    raise DamagedWeightsError(
                        f"{self.client.host} sends more of {file.name} than it announced",
                        why=f"the file has {file.num_bytes:,} bytes; it was removed",
                        fix="pull again, from the hub itself or from another mirror: --mirror URL",
                    )
                if fresh:
                    growing.append(fresh)
                    digest.update(fresh)
                    told(digest.size)


class _Digest:
    """The checksum that the hub gave, and the SHA-256 for the manifest, of the same bytes."""

    def __init__(self, file: RemoteFile) -> None:
        self.size, self._file, self._sha256 = 0, file, hashlib.sha256()
        self._git: Any = None
        if file.kind == "git-sha1":  # not for secrecy: it is how git names a blob
            self._git = hashlib.sha1(usedforsecurity=False)
            self._git.update(b"blob %d\0" % file.num_bytes)

    def update(self, data: bytes) -> None:
        self._sha256.update(data)
        if self._git is not None:
            self._git.update(data)
        self.size += len(data)

    def read(self, path: Path) -> None:
        with path.open("rb") as file:
            while piece := file.read(_PIECE_BYTES):
                self.update(piece)

    @property
    def sha256(self) -> str:
        return self._sha256.hexdigest()

    @property
    def found(self) -> str:
        return self.sha256 if self._git is None else str(self._git.hexdigest())

    @property
    def right(self) -> bool:
        return self.size == self._file.num_bytes and self.found == self._file.digest


def _skipped(status: int, content_range: str | None, start: int) -> int:
    """Bytes at the beginning of an answer that are at hand already.

    A server without ranges sends the whole file again; one that answers with another range than
    the one asked for is not believed.
    """
    if status == 200:
        return start
    begin = (content_range or "").removeprefix("bytes ").partition("-")[0]
    if status == 206 and begin == str(start):
        return 0
    raise BrokenOffError(f"asked from byte {start:,} on, the hub sent {content_range!r}")


def _part_name(file: RemoteFile) -> str:
    return f"{file.name}.{file.digest[:16]}.part"


def _at_hand(staging: Path, file: RemoteFile) -> int:
    sizes = [
        path.stat().st_size
        for path in (staging / file.name, staging / _part_name(file))
        if path.is_file()
    ]
    return min(file.num_bytes, max(sizes, default=0))


def _require_space(place: Path, needed_bytes: int) -> None:
    free = free_bytes(place)
    if needed_bytes + _SPARE_BYTES > free:
        raise DiskFullError(
            f"{place} needs {format_bytes(needed_bytes)} more, {format_bytes(free)} is free",
            why=f"looked at before fetching, with {format_bytes(_SPARE_BYTES)} to spare",
            fix="free some space, or put it elsewhere: --to DIR",
        )


@contextlib.contextmanager
def _told(final: Path) -> Iterator[None]:
    """A full disk in words that fit a download."""
    try:
        yield
    except DiskFullError as error:
        if "--to" in error.fix:
            raise
        raise DiskFullError(
            f"the disk is full, {final} is not complete",
            why="what came is kept, and pull goes on from there",
            fix="free some space and pull again, or put it elsewhere: --to DIR",
        ) from error


@contextlib.contextmanager
def _alone(final: Path) -> Iterator[None]:
    """Wait until no other process fetches the same model; the lock dies with its holder."""
    with contextlib.ExitStack() as stack:
        while True:
            try:
                stack.enter_context(locks.hold(final.with_name(final.name + ".lock")))
                break
            except locks.TakenError:
                time.sleep(0.2)
        yield


def discard(final: Path) -> None:
    """Remove a pulled model, and what an unfinished pull of it left."""
    for path in (final, final.with_name(final.name + ".part")):
        if path.is_dir():
            remove_folder(path)
