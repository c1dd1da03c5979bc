"""Chosen answers that all begin alike."""

from collections import Counter

from luthier.data.doctor.finding import Finding
from luthier.data.doctor.row import CheckedRow
from luthier.data.doctor.rule import DataFacts, Rule
from luthier.data.types import Preference

_LETTERS, _SHARE, _GAP, _FEWEST, _KINDS = 4, 0.5, 0.4, 20, 10_000


class ChosenOneLayout(Rule):
    """More than half of the chosen answers begin with the same four characters, and the rejected
    ones do not."""

    code = "chosen-one-layout"
    severity = "warning"
    sees = "pairs"
    title = "chosen answers that begin alike"
    why = "the first tokens alone tell the sides apart, so nothing behind them has to be learned"
    example = {"prompt": "Why?", "chosen": "Answer: because it is so.", "rejected": "It is so."}
    fix = "give both sides the same layout"

    def __init__(self, facts: DataFacts) -> None:
        super().__init__(facts)
        self._sides: tuple[Counter[str], Counter[str]] = (Counter(), Counter())
        self._pairs = 0

    def row(self, row: CheckedRow) -> None:
        """Count the beginnings of both sides."""
        if not isinstance(row.sample, Preference):
            return
        self._pairs += 1
        answers = (row.sample.chosen[0].content, row.sample.rejected[0].content)
        for counts, answer in zip(self._sides, answers, strict=True):
            start = answer.lstrip()[:_LETTERS]
            if start in counts or len(counts) < _KINDS:
                counts[start] += 1

    def finish(self, rows: int) -> Finding | None:
        """Where one beginning is common on one side only."""
        if self._pairs < _FEWEST:
            return None
        for side, one, other in (("chosen", 0, 1), ("rejected", 1, 0)):
            start, count = self._sides[one].most_common(1)[0]
            share, against = count / self._pairs, self._sides[other][start] / self._pairs
            if start and share > _SHARE and share - against > _GAP:
                detail = (
                    f"{share:.0%} of the {side} begin with {start!r}, {against:.0%} of the others"
                )
                params = {"side": side, "start": start, "share": share, "others": against}
                return self.finding(detail, count=count, params=params)
        return None
