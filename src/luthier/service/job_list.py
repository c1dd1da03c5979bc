"""Jobs, and beside them the runs that the command line started."""

from collections.abc import Collection, Sequence

from luthier.errors import JobStateError
from luthier.service.foreign import Foreign
from luthier.service.job_table import JobTable
from luthier.service.records import Job


class JobList:
    """What can be looked up and listed.

    Args:
        table: The jobs of the service.
        foreign: The runs beside them.
    """

    def __init__(self, table: JobTable, foreign: Foreign) -> None:
        self._table, self._foreign = table, foreign

    def get(self, id: str) -> Job:
        """The job of an id, or the run that the command line started.

        Raises:
            JobNotFoundError: There is none.
        """
        if id.startswith("ftjob-run"):
            for job in self.runs():
                if job.id == id:
                    return job
        return self._table.get(id)

    def runs(self) -> Sequence[Job]:
        """Runs that the command line started, newest first: read-only, but for `cancel`."""
        rows = self._table.store.read("SELECT run_path FROM jobs")
        return self._foreign.runs(row["run_path"] for row in rows)

    def all(
        self,
        *,
        state: Collection[str] | None = None,
        after: str | None = None,
        limit: int = 50,
    ) -> tuple[list[Job], bool]:
        """Jobs and runs together, newest first, and whether there are more.

        Args:
            state: Only those in one of these.
            after: Id of the last one of the page before.
        """
        runs = [run for run in self.runs() if state is None or run.state in state]
        last = self.get(after) if after is not None else None
        if last is None:
            jobs, more = self._table.list(state=state, limit=limit)
        elif last.managed:
            jobs, more = self._table.list(state=state, after=last.id, limit=limit)
        else:
            older = self._table.store.read(
                "SELECT id FROM jobs WHERE deleted = 0 AND created_at >= ? ORDER BY number LIMIT 1",
                (last.created_at,),
            )
            newer = older[0]["id"] if older else None
            jobs, more = self._table.list(state=state, after=newer, limit=limit)
        if last is not None:
            runs = [run for run in runs if run.created_at < last.created_at]
        both = sorted([*jobs, *runs], key=lambda job: job.created_at, reverse=True)
        return both[:limit], more or len(both) > limit

    def own(self, id: str) -> Job:
        """A job that may be changed.

        Raises:
            JobNotFoundError: There is none.
            JobStateError: It is a run of the command line.
        """
        job = self.get(id)
        if not job.managed:
            raise JobStateError(
                f"{id} is a run that the command line started: it can be watched and cancelled only",
                why="the service changes nothing in a directory that is not its own",
                fix=f"luthier train --resume true --output_dir {job.run_path}",
            )
        return job
