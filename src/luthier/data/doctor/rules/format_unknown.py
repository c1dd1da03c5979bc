"""Rows that are in no known format."""

from luthier.data.doctor.finding import Finding
from luthier.data.doctor.rule import BadRowRule, FileProblem
from luthier.errors import LuthierError


class FormatUnknown(BadRowRule):
    """A row without the fields of any format; for a whole file, what would make it load."""

    code = "format-unknown"
    title = "rows in no known format"
    why = "what is asked and what is answered is not guessed from unknown columns"
    example = {"frage": "Was ist 2 + 2?", "antwort": "4"}
    fix = "name the columns: --columns prompt=frage,completion=antwort; luthier data formats lists all"

    _error: LuthierError | None = None

    def file(self, problem: FileProblem) -> None:
        """Keep what the file as a whole suggests."""
        if problem.code == self.code:
            self._error = self._error or problem.error

    def finish(self, rows: int) -> Finding | None:
        """With the suggestion for the first file that has no row of a known format."""
        if self._error is None:
            return self.finding(f"{self.count:,} of {rows:,} rows") if self.count else None
        detail = f"{self.count:,} of {rows:,} rows" if self.count else self._error.what
        return self.finding(detail, why=self._error.why, fix=self._error.fix)
