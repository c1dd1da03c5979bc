"""Rows that are in no known format."""

import re

from luthier.data.doctor.finding import Finding
from luthier.data.doctor.rule import BadRowRule, FileProblem
from luthier.errors import LuthierError


class FormatUnknown(BadRowRule):
    """A row without the fields of any format; for a whole file, what would make it load."""

    code = "format-unknown"
    title = "rows in no known format"
    why = "what is asked and what is answered is not guessed from unknown columns"
    example = {"frage": "Was ist 2 + 2?", "antwort": "4"}
    fix = "columns: {prompt: THEIR_NAME, completion: THEIR_NAME}; luthier data formats lists all"

    _error: LuthierError | None = None

    def file(self, problem: FileProblem) -> None:
        """Keep what the file as a whole suggests."""
        if problem.code == self.code:
            self._error = self._error or problem.error

    def finish(self, rows: int) -> Finding | None:
        """With the suggestion for the first file that has no row of a known format."""
        if not self.count:
            return None
        detail = f"{self.count:,} of {rows:,} rows"
        if self._error is None:
            return self.finding(detail)
        return self.finding(detail, why=self._error.why, fix=_with_flag(self._error.fix))


def _with_flag(fix: str) -> str:
    """Columns for a YAML file also as the flag that can be pasted."""
    found = re.fullmatch(r"columns: \{([\w., :-]+)\}", fix)
    if found is None:
        return fix
    return f"--columns {found[1].replace(': ', '=').replace(', ', ',')}; or in a file: {fix}"
