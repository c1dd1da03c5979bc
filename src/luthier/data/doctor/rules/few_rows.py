"""Very little data."""

from luthier.data.doctor.finding import Finding
from luthier.data.doctor.row import CheckedRow
from luthier.data.doctor.rule import Rule

ENOUGH = 100


class FewRows(Rule):
    """Fewer than 100 rows that can be used."""

    code = "few-rows"
    severity = "warning"
    title = "very few rows"
    why = (
        "a model learns so few by heart within an epoch or two; held-out figures on them are noise"
    )
    example = "a file of 12 rows"
    fix = "add rows; or few epochs, a small rank, and a look at the answers themselves"

    _used = 0

    def row(self, row: CheckedRow) -> None:
        """Count what can be used."""
        self._used += row.problem is None

    def finish(self, rows: int) -> Finding | None:
        """Where there is too little, but something."""
        if not 0 < self._used < ENOUGH:
            return None
        detail = f"{self._used:,} rows can be used"
        return self.finding(detail, count=self._used, params={"used": self._used})
