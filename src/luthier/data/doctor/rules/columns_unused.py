"""Columns that nothing is made of."""

from collections import Counter

from luthier.data.doctor.finding import Finding
from luthier.data.doctor.row import CheckedRow
from luthier.data.doctor.rule import DataFacts, Rule


class ColumnsUnused(Rule):
    """Columns that the format does not use."""

    code = "columns-unused"
    severity = "note"
    title = "columns that are not used"
    why = "only what the format names is learned; the rest is left aside"
    example = {"instruction": "Say hello.", "output": "Hello.", "category": "greeting"}
    fix = "nothing, or name it: columns: {system: THEIR_NAME}"

    def __init__(self, facts: DataFacts) -> None:
        super().__init__(facts)
        self._names: Counter[str] = Counter()

    def row(self, row: CheckedRow) -> None:
        """Count each name."""
        if row.unused:
            self.count += 1
            self._names.update(map(str, row.unused))

    def finish(self, rows: int) -> Finding | None:
        """All names, the most frequent first."""
        if not self.count:
            return None
        named = ", ".join(f"{name} ({count:,})" for name, count in self._names.most_common(8))
        return self.finding(named, params={"columns": dict(self._names.most_common(50))})
