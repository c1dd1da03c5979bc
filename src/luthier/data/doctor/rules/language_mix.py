"""The languages of the answers."""

from collections import Counter

from luthier.data.doctor.finding import Finding
from luthier.data.doctor.languages import language_of
from luthier.data.doctor.row import CheckedRow
from luthier.data.doctor.rule import DataFacts, Rule


class LanguageMix(Rule):
    """Which languages the rows are in; more than one with a share of 1 % is a mix."""

    code = "language-mix"
    severity = "note"
    title = "languages"
    why = "a model answers in the languages it learned from, and mostly in the commonest of them"
    example = [
        {"instruction": "Say hello.", "output": "Hello."},
        {"instruction": "说你好", "output": "你好"},
    ]
    fix = "nothing, if the mix is meant"

    def __init__(self, facts: DataFacts) -> None:
        super().__init__(facts)
        self._languages: Counter[str] = Counter()

    def row(self, row: CheckedRow) -> None:
        """Count the language of the row."""
        if row.sample is not None:
            self._languages[language_of(row.text) or "unknown"] += 1

    def finish(self, rows: int) -> Finding | None:
        """All of them with their counts, where there are several."""
        known = {k: n for k, n in self._languages.items() if k != "unknown" and n > 0.01 * rows}
        if len(known) < 2:
            return None
        named = ", ".join(f"{name} {count:,}" for name, count in self._languages.most_common(12))
        count = sum(known.values()) - max(known.values())
        return self.finding(named, count=count, params={"languages": dict(self._languages)})
