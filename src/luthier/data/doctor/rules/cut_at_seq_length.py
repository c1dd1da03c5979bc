"""Rows that are cut to seq_length."""

from luthier.data.doctor.finding import Finding
from luthier.data.doctor.row import CheckedRow
from luthier.data.doctor.rule import DataFacts, Rule


class CutAtSeqLength(Rule):
    """Rows longer than the sequence; the report has the cost of other limits."""

    code = "cut-at-seq-length"
    severity = "warning"
    title = "rows longer than seq_length"
    why = "what is cut is not learned, and answers lose the context they were given for"
    example = "a row of 5,000 tokens with --seq_length 2048"
    fix = "--seq_length above the longest row, or accept it: the oldest turns go first"

    def __init__(self, facts: DataFacts) -> None:
        super().__init__(facts)
        self._longest = self._lost = 0

    def look(self, row: CheckedRow) -> str | None:
        """Its length, where it is cut."""
        if row.sizes is None or not row.cut:
            return None
        limit = self.facts.seq_length
        self._longest = max(self._longest, row.sizes.longest)
        self._lost += sum(max(0, length - limit) for length in row.sizes.lengths)
        return f"{row.sizes.longest:,} tokens"

    def finish(self, rows: int) -> Finding | None:
        """With the tokens that are lost and the length that would lose none."""
        if not self.count:
            return None
        limit, context = self.facts.seq_length, self.facts.context
        detail = (
            f"{self.count:,} of {rows:,} rows are cut to {limit:,} tokens, "
            f"{self._lost:,} tokens are over it; the longest has {self._longest:,}"
        )
        params = {"longest": self._longest, "tokens": self._lost, "limit": limit}
        if context is None or self._longest <= context:
            fix = f"--seq_length {self._longest} keeps all; or accept it: the oldest turns go first"
        elif limit < context:
            fix = f"--seq_length {context} keeps what the model can hold; the oldest turns go first"
        else:
            fix = (
                "the model holds no more: split these rows, or accept it: the oldest turns go first"
            )
        return self.finding(detail, fix=fix, params=params)
