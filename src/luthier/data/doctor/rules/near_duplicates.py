"""Rows that say nearly the same as an earlier row."""

from array import array

import numpy as np
from numpy.typing import NDArray

from luthier.data.doctor.finding import Finding
from luthier.data.doctor.minhash import signature, similar_pairs
from luthier.data.doctor.row import CheckedRow
from luthier.data.doctor.rule import DataFacts, Rule

MOST_ROWS = 100_000
SIMILAR = 0.8


class NearDuplicates(Rule):
    """Rows that share 80 % of their pieces of five characters with an earlier one (estimated by
    MinHash), without being the same; the first 100,000 rows are compared."""

    code = "near-duplicates"
    severity = "warning"
    title = "near duplicates"
    why = "rows from one mould are learned by heart, and across a split they make held-out figures too good"
    example = [
        {"instruction": "Name the capital of France, please.", "output": "The capital is Paris."},
        {"instruction": "Name the capital of France please.", "output": "The capital is Paris."},
    ]
    fix = "keep one of each group, or split so that a group stays on one side"

    def __init__(self, facts: DataFacts) -> None:
        super().__init__(facts)
        self._signatures: list[NDArray[np.uint32]] = []
        self._keys, self._rows = array("Q"), array("I")
        self._seen = 0

    def row(self, row: CheckedRow) -> None:
        """Keep a signature of 256 bytes."""
        if row.sample is None:
            return
        self._seen += 1
        if len(self._rows) < MOST_ROWS and (made := signature(row.text)) is not None:
            self._signatures.append(made)
            self._keys.append(row.key)
            self._rows.append(row.index)

    def sampled(self) -> dict[str, int]:
        """Whether all rows were compared."""
        return {self.code: len(self._rows)} if self._seen > MOST_ROWS else {}

    def finish(self, rows: int) -> Finding | None:
        """Every row that is near an earlier one; those that are the same have a rule of their own."""
        if len(self._rows) < 2:
            return None
        table = np.stack(self._signatures)
        places = self.facts.places
        for later, earlier, share in similar_pairs(table, SIMILAR):
            if self._keys[later] != self._keys[earlier]:
                here, there = places[self._rows[later]], places[self._rows[earlier]]
                place = f"line {there.line}" if here.file == there.file else str(there)
                self.hit(here, f"{share:.0%} like {place}")
        return super().finish(rows)
