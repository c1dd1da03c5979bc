"""A file with something in it that cannot be read."""

from luthier.data.doctor.finding import Finding
from luthier.data.doctor.rule import FileProblem, Rule
from luthier.data.types import Origin
from luthier.errors import LuthierError

_LEFT_OUT = "luthier data fix FILE --output NEW leaves broken lines out"


class FileUnreadable(Rule):
    """A file that is not well-formed from some line on, or has no rows."""

    code = "file-unreadable"
    severity = "error"
    title = "a file with lines that cannot be read"
    why = "a run stops here before it begins"
    example = '{"instruction": "Say hello.", "output": "Hel'
    fix = f"mend the line named; or {_LEFT_OUT}"

    _error: LuthierError | None = None

    def file(self, problem: FileProblem) -> None:
        """Keep the error that training would end with."""
        if problem.code == self.code:
            self._error = self._error or problem.error
            self.hit(Origin(problem.path, 0), problem.error.what)

    def finish(self, rows: int) -> Finding | None:
        """One finding for all such files."""
        if self._error is None:
            return None
        fix = "; or ".join(filter(None, (self._error.fix, _LEFT_OUT)))
        return self.finding(
            f"{self.count:,} file{'s' * (self.count > 1)}", why=self._error.why or self.why, fix=fix
        )
