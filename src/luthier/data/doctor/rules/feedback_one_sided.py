"""Labelled answers of one label only."""

from luthier.data.doctor.finding import Finding
from luthier.data.doctor.row import CheckedRow
from luthier.data.doctor.rule import Rule
from luthier.data.types import Feedback


class FeedbackOneSided(Rule):
    """Every answer has the same label."""

    code = "feedback-one-sided"
    severity = "warning"
    title = "labels of one kind only"
    why = (
        "KTO sets wanted answers against unwanted ones; with one kind it has nothing to tell apart"
    )
    example = {
        "messages": [{"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "4"}],
        "label": True,
    }
    fix = "add rows of the other label; or learn wanted ones alone: columns: {messages: messages}"

    _wanted = 0
    _other = 0

    def row(self, row: CheckedRow) -> None:
        """Count the labels of what can be used."""
        if row.problem is None and isinstance(row.sample, Feedback):
            self._wanted += row.sample.label
            self._other += not row.sample.label

    def finish(self, rows: int) -> Finding | None:
        """Where there are labels, and all are the same."""
        wanted, other = self._wanted, self._other
        if (wanted > 0) == (other > 0):
            return None
        label = str(wanted > 0).lower()
        detail = f"all {wanted + other:,} labels are {label}"
        return self.finding(
            detail, count=wanted + other, params={"label": label, "rows": wanted + other}
        )
