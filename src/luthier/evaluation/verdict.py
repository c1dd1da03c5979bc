"""What a comparison of two models on the same rows shows, in words."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from luthier.evaluation.interval import Interval
from luthier.evaluation.metrics import Metric, RowResult, difference, metrics_of
from luthier.json_values import JsonObject

Word = Literal["better", "worse", "no difference shown"]


@dataclass(frozen=True)
class Verdict:
    """One metric of a model beside that of the base, over the same rows.

    Attributes:
        difference: Model less base, with its interval.
        word: `better` or `worse` where the interval leaves out 0.
    """

    metric: Metric
    difference: Interval
    word: Word

    def as_dict(self) -> JsonObject:
        """Plain values."""
        found = self.difference
        return {
            "metric": self.metric.name,
            "difference": found.value,
            "interval": [found.low, found.high],
            "method": found.method,
            "verdict": self.word,
        }


def verdict(base: Sequence[RowResult], model: Sequence[RowResult], metric: Metric) -> Verdict:
    """What the rows show of one metric."""
    found = difference(base, model, metric)
    return Verdict(metric, found, word_of(found, metric))


def word_of(found: Interval, metric: Metric) -> Word:
    """A difference in words: nothing is shown while 0 agrees with the rows."""
    if found.low <= 0.0 <= found.high:
        return "no difference shown"
    return "better" if (found.value > 0) == (metric.better == "higher") else "worse"


def verdicts(base: Sequence[RowResult], model: Sequence[RowResult]) -> list[Verdict]:
    """One for each metric that both have; the loss only where both read the same tokens."""
    both = [metric for metric in metrics_of(base) if metric in metrics_of(model)]
    return [
        verdict(base, model, m) for m in both if m.wants != "tokens" or _same_tokens(base, model)
    ]


def _same_tokens(one: Sequence[RowResult], other: Sequence[RowResult]) -> bool:
    return all(
        mine.parts["loss"].weight == theirs.parts["loss"].weight
        for mine, theirs in zip(one, other, strict=True)
    )
