"""Jobs: what may be asked of them.  Every change is one transaction, on the disk when a call returns.

Asking is not doing: what needs a running process to stop leaves a wish in the row, and the runner
carries it out.  `changed` is set after every write, so that nobody has to poll in a hurry.
"""

import hashlib
import json
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from luthier.config.read import Resolved, load
from luthier.durable import remove_folder
from luthier.errors import IdempotencyError, QueueFullError, SettingsError
from luthier.limits import JOBS_WAITING
from luthier.runs.place import slug
from luthier.service.files import Files, new_id, safe_label
from luthier.service.foreign import Foreign
from luthier.service.job_list import JobList
from luthier.service.job_table import JobTable, log, wrong_state
from luthier.service.moved import follow_move
from luthier.service.records import Job, job_of
from luthier.service.states import ACTIVE, TERMINAL, State, Wish
from luthier.service.store import Store, to_json

MAX_PRIORITY = 1000
_OURS = ("output_dir", "resume")
"""Settings that the service decides."""


@dataclass(frozen=True)
class _Asked:
    """What a job was asked for; two requests with one key must be equal in this."""

    settings: Mapping[str, object]
    name: str
    priority: int
    kind: str
    metadata: Mapping[str, str]
    suffix: str

    def digest(self) -> str:
        text = json.dumps(asdict(self), sort_keys=True, default=str)
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


class Jobs:
    """The jobs of a data folder, and what may be asked of them.

    Attributes:
        table: Their rows: what is read and how a state changes.
        listing: Them and the runs that the command line started, as one list.

    Args:
        files: Where file ids in `dataset` and `eval_dataset` are looked up.
        max_waiting: Jobs that may wait at once.
        may_use: Asked with the resolved settings of a new job; raises to refuse them.
    """

    def __init__(
        self,
        store: Store,
        home: Path | None = None,
        *,
        files: Files | None = None,
        max_waiting: int = JOBS_WAITING,
        may_use: Callable[[Resolved], None] = lambda _: None,
    ) -> None:
        self.store = store
        self.table, self.foreign = JobTable(store), Foreign()
        self.listing = JobList(self.table, self.foreign)
        self.home = home or store.home
        self.files = files or Files(store)
        self.max_waiting, self.may_use = max_waiting, may_use
        follow_move(store, self.home)
        self._finish_deletions()

    def get(self, id: str) -> Job:
        """The job of an id, or the run that the command line started.

        Raises:
            JobNotFoundError: There is none.
        """
        return self.listing.get(id)

    def create(
        self,
        settings: Mapping[str, object],
        *,
        name: str = "",
        priority: int = 0,
        kind: str = "train",
        idempotency_key: str | None = None,
        metadata: Mapping[str, str] | None = None,
        suffix: str = "",
        hold: bool = False,
    ) -> Job:
        """Accept a job; it survives any kill from the moment this returns.

        Args:
            settings: As for `luthier train`; `dataset` and `eval_dataset` may hold file ids.
            priority: Higher goes first; -1000 to 1000.
            idempotency_key: The same key with the same request gives the job that is there.
            metadata: Kept and handed back.
            suffix: Part of the name of the result.
            hold: Leave it in `created`; `release` or `reject` decide later.

        Raises:
            SettingsError: Every problem with the settings, in one message.
            UploadNotFoundError: A file id that does not exist.
            IdempotencyError: The key belongs to another request.
            QueueFullError: `max_waiting` jobs wait already.
        """
        asked = _Asked(dict(settings), name, priority, kind, dict(metadata or {}), suffix)
        digest = asked.digest()
        if idempotency_key is not None and (known := self._of_key(idempotency_key, digest)):
            return known
        resolved, used = self._resolve(settings)
        self.may_use(resolved)
        return self._insert(resolved, used, asked, idempotency_key=idempotency_key, hold=hold)

    def _of_key(self, key: str, digest: str) -> Job | None:
        rows = self.store.read("SELECT * FROM jobs WHERE idempotency_key = ?", (key,))
        if rows and rows[0]["request_hash"] != digest:
            raise IdempotencyError(
                f"the idempotency key {key[:60]!r} was used for {rows[0]['id']}, another request",
                why="one key names one request",
                fix="use a new key for a new job",
            )
        return job_of(rows[0]) if rows else None

    def _resolve(self, settings: Mapping[str, object]) -> tuple[Resolved, list[str]]:
        """Settings with paths for file ids, and the ids."""
        if ours := [name for name in _OURS if settings.get(name) not in (None, False)]:
            raise SettingsError(
                f"{' and '.join(ours)} cannot be given for a job",
                why="the service makes the run directory and resumes there by itself",
                fix="leave it out",
            )
        values = {name: value for name, value in settings.items() if name not in _OURS}
        used: list[str] = []
        for name in ("dataset", "eval_dataset"):
            if name in values:
                values[name] = self._paths_of(values[name], used)
        if values.get("columns") is None and (kept := self.files.columns_of(used)):
            values["columns"] = kept
        if "model" in values:
            values["model"] = _absolute(values["model"])
        return load(arguments=values), used

    def _paths_of(self, given: object, used: list[str]) -> object:
        many = [given] if isinstance(given, str) else given
        if not isinstance(many, list | tuple):
            return given  # refused by the settings, with their words
        found: list[object] = []
        for one in many:
            if isinstance(one, str) and one.startswith("file-"):
                found.append(str(self.files.path(one)))
                used.append(one)
            else:
                found.append(_absolute(one))
        return found

    def _insert(
        self,
        resolved: Resolved,
        used: Sequence[str],
        asked: _Asked,
        *,
        idempotency_key: str | None = None,
        hold: bool = False,
        retry_of: Job | None = None,
    ) -> Job:
        id, now, digest = new_id("ftjob-"), time.time(), asked.digest()
        row = self._row(id, now, resolved, asked, retry_of)
        state: State = "created" if hold else "queued"
        row |= {"state": state, "idempotency_key": idempotency_key, "request_hash": digest}
        row["queued_at"] = None if hold else now
        with self.store.write() as connection:
            waiting = connection.execute(
                "SELECT count(*) FROM jobs WHERE state IN ('created', 'queued')"
            ).fetchone()[0]
            if waiting >= self.max_waiting:
                raise QueueFullError(
                    f"{waiting:,} jobs wait already",
                    why=f"at most {self.max_waiting:,} may wait",
                    fix="try again when some have ended",
                )
            for file in used:  # it may have been deleted a moment ago
                self.files.get(file)
            try:
                names, marks = ", ".join(row), ", ".join("?" * len(row))
                values = tuple(row.values())
                connection.execute(f"INSERT INTO jobs ({names}) VALUES ({marks})", values)
            except sqlite3.IntegrityError:
                # Another request with this key, at the same instant.
                if idempotency_key and (known := self._of_key(idempotency_key, digest)):
                    return known
                raise
            connection.executemany(
                "INSERT INTO job_files (job, file) VALUES (?, ?)",
                [(id, file) for file in dict.fromkeys(used)],
            )
            log(connection, id, now, None, "created", 0, "accepted")
            if not hold:
                log(connection, id, now, "created", "queued", 0, "waits for a device")
        self.table.changed.set()
        return self.get(id)

    def _row(
        self, id: str, now: float, resolved: Resolved, asked: _Asked, retry_of: Job | None
    ) -> dict[str, object]:
        """What the row of a new job begins with."""
        settings = resolved.settings
        about = map(slug, (settings.model, settings.dataset[0]))
        title = slug(asked.name) or "-".join(filter(None, about))
        folder = f"{time.strftime('%Y-%m-%d')}-{title}-{id[-8:]}"
        return {
            "id": id,
            "kind": asked.kind,
            "name": safe_label(asked.name) if asked.name else "",
            "priority": _checked_priority(asked.priority),
            "given": to_json(asked.settings),
            "resolved": to_json({**resolved.as_dict(), "config": resolved.config_text}),
            "suffix": asked.suffix,
            "num_devices": settings.devices,
            "run_path": str(retry_of.run_path if retry_of else self.home / "runs" / folder),
            "metadata": to_json(asked.metadata),
            "retry_of": retry_of.id if retry_of else None,
            "created_at": now,
        }

    def release(self, id: str) -> Job:
        """Put a held job into the queue."""
        return self.table.move(id, "queued", reason="checked", queued_at=time.time())

    def reject(self, id: str, error: Mapping[str, str]) -> Job:
        """End a held job that cannot work."""
        return self.table.move(id, "failed", reason=error.get("what", ""), error=error)

    def cancel(self, id: str) -> Job:
        """Stop for good.  A job at work is stopped by the runner; until then it has the wish.

        Raises:
            JobStateError: It has ended already; asking again while it is stopped is no error.
        """
        if not (job := self.get(id)).managed:
            self.foreign.cancel(job)
            return self.get(id)
        return self._ask(id, "cancel", at_once="cancelled")

    def pause(self, id: str) -> Job:
        """Save, stop and give the device back; `resume` goes on from there.

        Raises:
            JobStateError: It has ended.
        """
        return self._ask(id, "pause", at_once="paused")

    def stop_early(self, id: str) -> Job:
        """End training after the step at work; the result is the best checkpoint so far.

        Raises:
            JobStateError: It is not at work.
        """
        return self._ask(id, "stop_early", at_once=None)

    def _ask(self, id: str, wish: Wish, at_once: State | None) -> Job:
        with self.store.write() as connection:
            job = self.listing.own(id)
            if job.state not in ACTIVE:
                if at_once is None or job.ended:
                    raise wrong_state(job, wish, "it must be at work" if at_once is None else "")
                if job.state == at_once:
                    return job
                return self.table.move(id, at_once, reason=f"{wish} was asked for")
            if job.wish == "cancel" and wish != "cancel":
                raise wrong_state(job, wish, "it is being cancelled")
            if job.wish != wish:
                connection.execute("UPDATE jobs SET wish = ? WHERE id = ?", (wish, id))
                reason = f"{wish} was asked for"
                log(connection, id, time.time(), job.state, job.state, job.attempts, reason)
        self.table.changed.set()
        return self.get(id)

    def resume(self, id: str) -> Job:
        """Put a paused job back into the queue; it goes on from its last checkpoint.

        Raises:
            JobStateError: It is not paused.
        """
        job = self.listing.own(id)
        if job.state != "paused":
            raise wrong_state(job, "resume", "only a paused job can go on")
        return self.table.move(id, "queued", reason="resume was asked for", queued_at=time.time())

    def retry(self, id: str) -> Job:
        """A new job that goes on in the run directory of one that failed or was cancelled.

        Raises:
            JobStateError: It has not ended so, or another job works in its directory.
        """
        job = self.listing.own(id)
        if job.state not in {"failed", "cancelled"}:
            raise wrong_state(job, "retry", "only a failed or cancelled job can be tried again")
        try:
            return self._again(job, retry_of=job)
        except sqlite3.IntegrityError as error:
            raise wrong_state(job, "retry", "another job works in its run directory") from error

    def clone(self, id: str, /, **changes: object) -> Job:
        """A new job with the settings of another; `changes` are settings that differ."""
        return self._again(self.get(id), changes=changes)

    def _again(
        self, job: Job, *, retry_of: Job | None = None, changes: Mapping[str, object] | None = None
    ) -> Job:
        settings = {**job.given, **(changes or {})}
        asked = _Asked(settings, job.name, job.priority, job.kind, dict(job.metadata), job.suffix)
        resolved, used = self._resolve(settings)
        self.may_use(resolved)
        return self._insert(resolved, used, asked, retry_of=retry_of)

    def change(self, id: str, *, priority: int | None = None, name: str | None = None) -> Job:
        """Set the priority, the name, or both.

        Raises:
            SettingsError: The priority is out of range.
        """
        with self.store.write() as connection:
            self.listing.own(id)
            if priority is not None:
                _checked_priority(priority)
                connection.execute("UPDATE jobs SET priority = ? WHERE id = ?", (priority, id))
            if name is not None:
                label = safe_label(name) if name else ""
                connection.execute("UPDATE jobs SET name = ? WHERE id = ?", (label, id))
        self.table.changed.set()
        return self.get(id)

    def delete(self, id: str) -> None:
        """Remove a job that has ended, with its run directory unless another job has it too.

        Raises:
            JobStateError: It has not ended.
        """
        with self.store.write() as connection:
            job = self.listing.own(id)
            if job.state not in TERMINAL:
                raise wrong_state(job, "delete", "it has not ended")
            connection.execute("UPDATE jobs SET deleted = 1 WHERE id = ?", (id,))
        self._finish_deletions()
        self.table.changed.set()

    def _finish_deletions(self) -> None:
        """Remove what belongs to deleted jobs; a kill half-way is made up for at the next start."""
        for row in self.store.read("SELECT id, run_path FROM jobs WHERE deleted = 1"):
            others = self.store.read(
                "SELECT 1 FROM jobs WHERE run_path = ? AND deleted = 0", (row["run_path"],)
            )
            path = Path(row["run_path"])
            inside = self.home / "runs" in path.parents and not path.is_symlink()
            if not others and inside and path.is_dir():
                remove_folder(path)
            with self.store.write() as connection:
                connection.execute("DELETE FROM jobs WHERE id = ?", (row["id"],))


def _absolute(name: object) -> object:
    """A file or folder that is there by its whole path: the server may be started elsewhere next time."""
    if not isinstance(name, str) or "/" not in name or name.startswith("/"):
        return name
    try:
        path = Path(name).expanduser()
        return str(path.absolute()) if path.exists() else name
    except (OSError, RuntimeError, ValueError):  # a name that can be no path is none
        return name


def _checked_priority(priority: int) -> int:
    if isinstance(priority, bool) or not isinstance(priority, int) or abs(priority) > MAX_PRIORITY:
        raise SettingsError(
            f"priority={str(priority)[:60]} cannot be used",
            why=f"it is a whole number from -{MAX_PRIORITY} to {MAX_PRIORITY}; higher goes first",
            fix="priority=0",
        )
    return priority
