"""Rows that say exactly the same as an earlier row."""

from luthier.data.doctor.finding import Finding
from luthier.data.doctor.places import Hashes
from luthier.data.doctor.row import CheckedRow
from luthier.data.doctor.rule import DataFacts, Rule


class DuplicateRows(Rule):
    """Exact duplicates: the same turns, tools and weights, wherever they stand."""

    code = "duplicate-rows"
    severity = "warning"
    title = "exact duplicates"
    why = "a row that is there n times is learned n times as hard, and repeats across a split leak"
    example = [{"instruction": "Say hello.", "output": "Hello."}] * 2
    fix = "luthier data fix FILE --output NEW keeps the first of each"

    def __init__(self, facts: DataFacts) -> None:
        super().__init__(facts)
        self._hashes = Hashes()

    def row(self, row: CheckedRow) -> None:
        """Keep eight bytes of the row."""
        if row.sample is not None:
            self._hashes.add(row.key, row.index)

    def finish(self, rows: int) -> Finding | None:
        """Every row that repeats one."""
        places = self.facts.places
        for again, first in self._hashes.repeated():
            origin = places[first]
            same = origin.file == places[again].file
            self.hit(places[again], f"repeats line {origin.line}" if same else f"repeats {origin}")
        return super().finish(rows)
