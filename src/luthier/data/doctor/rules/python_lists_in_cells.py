"""Python lists written into cells."""

from luthier.data.doctor.finding import Finding
from luthier.data.doctor.rule import FileProblem, Rule
from luthier.data.types import Origin
from luthier.errors import LuthierError


class PythonListsInCells(Rule):
    """A column whose cells hold the text of Python lists, as pandas writes them to CSV."""

    code = "python-lists-in-cells"
    severity = "error"
    title = "Python lists in cells"
    why = "they would be learned as they stand, brackets and quotes included"
    example = {"question": "['Siapa', 'presiden', '?']", "answer": "['Soekarno']"}
    fix = "join the words and write JSONL"

    _error: LuthierError | None = None

    def file(self, problem: FileProblem) -> None:
        """Keep the error, whose fix is a command."""
        if problem.code == self.code:
            self._error = self._error or problem.error
            self.hit(Origin(problem.path, 2), problem.error.what.partition(": ")[2])

    def finish(self, rows: int) -> Finding | None:
        """One finding for all such files."""
        if self._error is None:
            return None
        return self.finding(f"{self.count:,} file{'s' * (self.count > 1)}", fix=self._error.fix)
