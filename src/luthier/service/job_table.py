"""The rows of jobs: reading them, and the one way in which a state changes."""

import sqlite3
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import TypedDict, Unpack

from luthier.errors import JobNotFoundError, JobStateError
from luthier.locks import Owner
from luthier.service.records import Job, StateChange, job_of
from luthier.service.states import ACTIVE, ALLOWED, TERMINAL, State, Wish
from luthier.service.store import Store, to_json


class JobColumns(TypedDict, total=False):
    """Columns that may change besides the state."""

    attempts: int
    devices: Sequence[str]
    error: Mapping[str, str] | None
    events_from: int
    finished_at: float | None
    model: str | None
    queued_at: float | None
    retries: int
    started_at: float | None
    wish: Wish | None
    worker: Owner | None


class JobTable:
    """Jobs as rows, with their history.

    Attributes:
        changed: Set after every write.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self.changed = threading.Event()

    def get(self, id: str) -> Job:
        """The job of an id.

        Raises:
            JobNotFoundError: There is none.
        """
        rows = self.store.read("SELECT * FROM jobs WHERE id = ? AND deleted = 0", (id,))
        if not rows:
            raise JobNotFoundError(
                f"there is no job {id[:60]!r}",
                why="an id is what creating a job answers with",
                fix="luthier jobs list",
            )
        return job_of(rows[0])

    def list(
        self,
        *,
        state: str | Iterable[str] | None = None,
        after: str | None = None,
        limit: int = 20,
    ) -> tuple[list[Job], bool]:
        """Jobs, newest first, and whether there are more.

        Args:
            state: Only those in this state, or in one of these.
            after: Id of the last job of the page before.
        """
        # The plus keeps the order of `number`, of which only the first page is read.
        where, values = ["+deleted = 0"], list[object]()
        if state is not None:
            states = [state] if isinstance(state, str) else [*state]
            where.append(f"state IN ({', '.join('?' * len(states))})")
            values += states
        if after is not None:
            self.get(after)
            where.append("number < (SELECT number FROM jobs WHERE id = ?)")
            values.append(after)
        rows = self.store.read(
            f"SELECT * FROM jobs WHERE {' AND '.join(where)} ORDER BY number DESC LIMIT ?",
            (*values, limit + 1),
        )
        return [job_of(row) for row in rows[:limit]], len(rows) > limit

    def counts(self) -> dict[str, int]:
        """How many jobs are in each state."""
        rows = self.store.read(
            "SELECT state, count(*) AS n FROM jobs WHERE deleted = 0 GROUP BY state"
        )
        return {row["state"]: row["n"] for row in rows}

    def waiting(self, limit: int = 20) -> "Sequence[Job]":
        """The first queued jobs in the order they will start: by priority, then by age."""
        rows = self.store.read(
            "SELECT * FROM jobs INDEXED BY jobs_waiting WHERE state = 'queued'"
            " ORDER BY priority DESC, queued_at, number LIMIT ?",
            (limit,),
        )
        return [job_of(row) for row in rows]

    def active(self) -> "Sequence[Job]":
        """Jobs for which a process may be at work."""
        marks = ", ".join("?" * len(ACTIVE))
        rows = self.store.read(
            f"SELECT * FROM jobs WHERE deleted = 0 AND state IN ({marks}) ORDER BY number",
            sorted(ACTIVE),
        )
        return [job_of(row) for row in rows]

    def history(self, id: str) -> "Sequence[StateChange]":
        """Every change of state with its time, attempt and reason, oldest first."""
        self.get(id)
        rows = self.store.read("SELECT * FROM job_log WHERE job = ? ORDER BY number", (id,))
        return [StateChange(**dict(row)) for row in rows]

    def files_of(self, id: str) -> "Sequence[str]":
        """Ids of the uploaded files a job reads."""
        rows = self.store.read("SELECT file FROM job_files WHERE job = ? ORDER BY rowid", (id,))
        return [row["file"] for row in rows]

    def move(self, id: str, to: State, *, reason: str, **values: Unpack[JobColumns]) -> Job:
        """Change the state, in one transaction, as the table of states allows.

        Args:
            reason: Kept in the history.
            values: Columns that change with it.

        Raises:
            JobStateError: `to` may not follow the state it is in.
        """
        now = time.time()
        with self.store.write() as connection:
            job = self.get(id)
            if to not in ALLOWED[job.state]:
                raise wrong_state(job, f"become {to}", "")
            if to in TERMINAL:
                values |= {"finished_at": now, "wish": None, "devices": []}
            if to not in ACTIVE:
                values |= {"worker": None, "devices": []}
            if to == "paused":
                values["wish"] = None
            columns = ", ".join(f"{name} = ?" for name in ("state", *values))
            stored = [_stored(value) for value in values.values()]
            connection.execute(f"UPDATE jobs SET {columns} WHERE id = ?", (to, *stored, id))
            attempt = values.get("attempts", job.attempts)
            log(connection, id, now, job.state, to, attempt, reason)
        self.changed.set()
        return self.get(id)

    def remark(self, id: str, text: str) -> None:
        """Write into the history of a job without changing it."""
        with self.store.write() as connection:
            job = self.get(id)
            log(connection, id, time.time(), job.state, job.state, job.attempts, text)
        self.changed.set()

    def note(self, id: str, **values: Unpack[JobColumns]) -> Job:
        """Change columns that are no state: the worker, an error that is tried again."""
        with self.store.write() as connection:
            columns = ", ".join(f"{name} = ?" for name in values)
            stored = [_stored(value) for value in values.values()]
            connection.execute(f"UPDATE jobs SET {columns} WHERE id = ?", (*stored, id))
        self.changed.set()
        return self.get(id)


def _stored(value: object) -> object:
    """A value as SQLite takes it: what has parts becomes JSON."""
    if isinstance(value, Owner):
        value = asdict(value)
    return to_json(value) if isinstance(value, list | tuple | Mapping) else value


def wrong_state(job: Job, wanted: str, why: str) -> JobStateError:
    fix = f"luthier jobs clone {job.id}" if job.ended else "luthier jobs list"
    rule = "an ended job never changes" if job.ended else f"it is {job.state}"
    return JobStateError(
        f"{job.id} is {job.state}: cannot {wanted.replace('_', ' ')}", why=why or rule, fix=fix
    )


def log(
    connection: sqlite3.Connection,
    id: str,
    moment: float,
    before: str | None,
    after: str,
    attempt: int,
    reason: str,
) -> None:
    connection.execute(
        "INSERT INTO job_log (job, time, before, after, attempt, reason) VALUES (?,?,?,?,?,?)",
        (id, moment, before, after, attempt, reason[:2000]),
    )
