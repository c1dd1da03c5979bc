"""A file in another encoding than UTF-8."""

from luthier.data.doctor.finding import Finding
from luthier.data.doctor.rule import FileProblem, Rule
from luthier.data.types import Origin
from luthier.errors import LuthierError


class EncodingNotUtf8(Rule):
    """A file whose bytes are not UTF-8; shows which encodings it may be."""

    code = "encoding-not-utf8"
    severity = "error"
    title = "a file that is not UTF-8"
    why = "read as UTF-8 it cannot be decoded, and read in a wrong encoding it teaches garbage"
    example = "中文 written as the GB18030 bytes d6 d0 ce c4"
    fix = "--encoding NAME, with the encoding it was written in"

    _error: LuthierError | None = None

    def file(self, problem: FileProblem) -> None:
        """Keep the error, which names the encoding."""
        if problem.code == self.code:
            self._error = self._error or problem.error
            self.hit(Origin(problem.path, 0), problem.error.what)

    def finish(self, rows: int) -> Finding | None:
        """One finding for all such files."""
        if self._error is None:
            return None
        return self.finding(
            f"{self.count:,} file{'s' * (self.count > 1)}; {self._error.why}",
            fix=self._error.fix,
        )
