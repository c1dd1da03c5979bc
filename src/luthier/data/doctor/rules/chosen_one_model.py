"""One model that is always on the chosen side."""

from collections import Counter
from collections.abc import Mapping

from luthier.data.doctor.finding import Finding
from luthier.data.doctor.row import CheckedRow
from luthier.data.doctor.rule import DataFacts, Rule
from luthier.data.types import Preference

_COLUMNS = (
    ("chosen_model", "rejected_model"),
    ("model_chosen", "model_rejected"),
    ("chosen-model", "rejected-model"),
    ("chosen_source", "rejected_source"),
)
_SHARE, _FEWEST, _MODELS = 0.9, 20, 1000


class ChosenOneModel(Rule):
    """By the columns that name who wrote each side: one wrote 90 % of the chosen answers, and is
    seldom on the other side."""

    code = "chosen-one-model"
    severity = "warning"
    sees = "pairs"
    title = "one model is nearly always the chosen side"
    why = (
        "its style tells the sides apart more easily than quality does, so style is what is learned"
    )
    example = {
        "prompt": "Why?",
        "chosen": "Because.",
        "rejected": "So.",
        "chosen_model": "A",
        "rejected_model": "B",
    }
    fix = "add pairs in which that model's answer is rejected, or balance the models"

    def __init__(self, facts: DataFacts) -> None:
        super().__init__(facts)
        self._chosen: Counter[str] = Counter()
        self._rejected: Counter[str] = Counter()

    def row(self, row: CheckedRow) -> None:
        """Count the models of both sides."""
        if not isinstance(row.sample, Preference):
            return
        for chosen, rejected in _COLUMNS:
            for counts, name in ((self._chosen, chosen), (self._rejected, rejected)):
                model = _name(row.fields, name)
                if model is not None and (model in counts or len(counts) < _MODELS):
                    counts[model] += 1

    def finish(self, rows: int) -> Finding | None:
        """Where one model stands out."""
        pairs = self._chosen.total()
        if pairs < _FEWEST:
            return None
        model, count = self._chosen.most_common(1)[0]
        against = self._rejected[model] / max(1, self._rejected.total())
        if count / pairs < _SHARE or against > 1 - _SHARE:
            return None
        detail = (
            f"{model} wrote {count / pairs:.0%} of the chosen and {against:.0%} of the rejected"
        )
        params = {"model": model, "chosen": count / pairs, "rejected": against}
        return self.finding(detail, count=count, params=params)


def _name(fields: Mapping[str, object], column: str) -> str | None:
    value = fields.get(column)
    return value if isinstance(value, str) else None
