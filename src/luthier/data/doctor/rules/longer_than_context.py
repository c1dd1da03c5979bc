"""Rows longer than the model can read."""

from luthier.data.doctor.finding import Finding
from luthier.data.doctor.row import CheckedRow
from luthier.data.doctor.rule import DataFacts, Rule


class LongerThanContext(Rule):
    """Rows with more tokens than the model has positions."""

    code = "longer-than-context"
    severity = "warning"
    title = "rows longer than the model's context"
    why = "no seq_length can hold them: behind its last position the model knows nothing"
    example = "a row of 12,000 tokens for a model with 4,096 positions"
    fix = "split these rows, or choose a model with a longer context"

    def __init__(self, facts: DataFacts) -> None:
        super().__init__(facts)
        self._longest = 0

    def look(self, row: CheckedRow) -> str | None:
        """Its length."""
        context = self.facts.context
        if row.sizes is None or context is None or row.sizes.longest <= context:
            return None
        self._longest = max(self._longest, row.sizes.longest)
        return f"{row.sizes.longest:,} tokens"

    def finish(self, rows: int) -> Finding | None:
        """With the longest of them."""
        if not self.count:
            return None
        detail = (
            f"{self.count:,} of {rows:,} rows have more than the {self.facts.context:,} positions "
            f"of the model; the longest has {self._longest:,} tokens"
        )
        params = {"longest": self._longest, "context": self.facts.context}
        return self.finding(detail, params=params)
