"""Several formats in one data set."""

from collections import Counter

from luthier.data.doctor.finding import Finding
from luthier.data.doctor.row import CheckedRow
from luthier.data.doctor.rule import DataFacts, Rule


class FormatMixed(Rule):
    """Rows of several formats; each row's own is certain, so they are read."""

    code = "format-mixed"
    severity = "warning"
    title = "several formats"
    why = "they are all read, but a mix is more often an accident of joining files than meant"
    example = [{"instruction": "Say hello.", "output": "Hello."}, {"text": "Hello."}]
    fix = "nothing, if the mix is meant; else keep one format a file"

    def __init__(self, facts: DataFacts) -> None:
        super().__init__(facts)
        self._formats: Counter[str] = Counter()

    def row(self, row: CheckedRow) -> None:
        """Count the format; the first row of each further one is shown."""
        if row.sample is None or row.format is None:
            return
        if row.format not in self._formats and self._formats:
            first = self._formats.most_common(1)[0][0]
            self.hit(row.origin, f"{row.format}, after rows of {first}")
        self._formats[row.format] += 1

    def finish(self, rows: int) -> Finding | None:
        """Where there is more than one."""
        if len(self._formats) < 2:
            return None
        named = ", ".join(f"{name} {count:,}" for name, count in self._formats.most_common())
        count = sum(self._formats.values()) - max(self._formats.values())
        return self.finding(named, count=count, params={"formats": dict(self._formats)})
