"""Rows that are also among the held-out rows."""

from luthier.data.doctor.finding import Finding
from luthier.data.doctor.keys import loose_key
from luthier.data.doctor.places import Hashes
from luthier.data.doctor.row import CheckedRow
from luthier.data.doctor.rule import DataFacts, Rule


class HeldOutOverlap(Rule):
    """Rows of `eval_dataset` that are learned from: exactly, or but for case and punctuation."""

    code = "held-out-overlap"
    severity = "warning"
    title = "held-out rows among the rows that are learned"
    why = "what was learned by heart is then measured, so the held-out figures are too good"
    example = "the same row in the data set and in --eval_dataset"
    fix = "remove the rows from one of the two, or use --eval_split"

    def __init__(self, facts: DataFacts) -> None:
        super().__init__(facts)
        self._exact, self._loose = Hashes(), Hashes()

    def row(self, row: CheckedRow) -> None:
        """Keep sixteen bytes of the row, if there is anything to compare with."""
        if row.sample is not None and self.facts.held_out is not None:
            self._exact.add(row.key, row.index)
            self._loose.add(loose_key(row.sample), row.index)

    def finish(self, rows: int) -> Finding | None:
        """Rows that are in both."""
        if self.facts.held_out is None:
            return None
        exact = set(self._exact.among(self.facts.held_out[0]))
        loose = set(self._loose.among(self.facts.held_out[1]))
        for index in sorted(exact | loose):
            how = "exactly" if index in exact else "but for case, spacing or punctuation"
            self.hit(self.facts.places[index], f"is also held out, {how}")
        if not self.count:
            return None
        detail = f"{len(exact):,} exactly, {len(loose - exact):,} but for case and punctuation"
        return self.finding(detail, params={"exact": len(exact), "loose": len(loose - exact)})
