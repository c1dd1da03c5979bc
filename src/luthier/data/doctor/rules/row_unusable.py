"""Rows that cannot be used for a reason that no other rule is about."""

from luthier.data.doctor.row import CheckedRow
from luthier.data.doctor.rule import Rule


class RowUnusable(Rule):
    """A row that reading refuses: no object, content that is no text, a weight out of range."""

    code = "row-unusable"
    severity = "error"
    sees = "problems"
    title = "rows that cannot be used"
    why = "a run drops up to 1 % of such rows, and stops above that"
    example = {"messages": [{"role": "user", "content": 4}, {"role": "assistant", "content": "4"}]}
    fix = "mend the rows, or remove them; each is listed with its reason by --json"

    def look(self, row: CheckedRow) -> str | None:
        """The reason that training would give."""
        return row.problem.reason if row.problem is not None and not row.problem.kind else None
