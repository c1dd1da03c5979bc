"""Each metric once: what it is called, which way is better, and what its rows are made of.

A row gives every metric a sum and a weight; the figure is the sum over rows by the weight over rows.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from luthier.evaluation.interval import (
    Interval,
    paired_proportions,
    paired_ratios,
    ratio_interval,
    wilson_interval,
)

Better = Literal["lower", "higher"]


@dataclass(frozen=True)
class Metric:
    """A metric.

    Attributes:
        name: In JSON and in `--metrics`.
        title: In tables.
        better: Which way is better.
        proportion: Whether a row is right or wrong, nothing between.
        most: Largest value that is possible.
        wants: What rows need for it: `tokens`, `answers`, `options` or `pairs`.
        about: What it says, in a sentence.
    """

    name: str
    title: str
    better: Better
    proportion: bool
    most: float
    wants: Literal["tokens", "answers", "options", "pairs"]
    about: str


METRICS: tuple[Metric, ...] = (
    Metric(
        "loss", "loss", "lower", False, math.inf, "tokens",
        "nats per learned token, as in training",
    ),
    Metric(
        "accuracy", "token accuracy", "higher", False, 1.0, "tokens",
        "share of learned tokens that were the likeliest",
    ),
    Metric(
        "numeric", "numeric match", "higher", True, 1.0, "answers",
        "the number behind #### or the last one of the written answer equals that of the row",
    ),
    Metric(
        "exact", "exact match", "higher", True, 1.0, "answers",
        "the written answer is that of the row, but for case, spacing and a final full stop",
    ),
    Metric(
        "rouge_l", "ROUGE-L", "higher", False, 1.0, "answers",
        "F-measure of the longest common subsequence of words, mean over rows",
    ),
    Metric(
        "chrf", "chrF", "higher", False, 100.0, "answers",
        "F2 of character n-grams up to 6, mean over rows, 0 to 100",
    ),
    Metric(
        "choice", "choice", "higher", True, 1.0, "options",
        "the right option has the largest log-probability",
    ),
    Metric(
        "choice_norm", "choice by character", "higher", True, 1.0, "options",
        "the right option has the largest log-probability per character",
    ),
    Metric(
        "preference", "chosen preferred", "higher", True, 1.0, "pairs",
        "the chosen answer has the larger log-probability; no reference model",
    ),
    Metric(
        "preference_norm", "chosen preferred by token", "higher", True, 1.0, "pairs",
        "the chosen answer has the larger log-probability per token; no reference model",
    ),
)  # fmt: skip
BY_NAME: Mapping[str, Metric] = {metric.name: metric for metric in METRICS}


class RowShare(NamedTuple):
    """What a row adds to a metric."""

    total: float
    weight: float


@dataclass(frozen=True)
class RowResult:
    """One row, as one model did on it.

    Attributes:
        origin: File and line.
        prompt: What was asked, as text.
        expected: The answer of the row; of a choice the right option, of a pair the chosen answer.
        parts: By metric.
        answer: What the model wrote, or the option it chose; None where it was not asked.
        whole: Whether what it wrote came to its end; None where it wrote nothing.
        note: Why the row could not be answered; empty otherwise.
    """

    origin: str
    prompt: str
    expected: str
    parts: Mapping[str, RowShare] = field(default_factory=dict)
    answer: str | None = None
    whole: bool | None = None
    note: str = ""

    def figure(self, name: str) -> float:
        """The metric of this row alone."""
        part = self.parts[name]
        return part.total / part.weight if part.weight else math.nan


def metrics_of(rows: Sequence[RowResult]) -> list[Metric]:
    """The metrics that every row has, in the order of tables."""
    return [metric for metric in METRICS if rows and all(metric.name in r.parts for r in rows)]


def figure(rows: Sequence[RowResult], metric: Metric) -> Interval:
    """A metric over rows, with its interval."""
    parts = [row.parts[metric.name] for row in rows]
    if metric.proportion:
        return wilson_interval(sum(part.total for part in parts), len(parts))
    found = ratio_interval([part.total for part in parts], [part.weight for part in parts])
    return found.within(0.0, metric.most)


def difference(one: Sequence[RowResult], other: Sequence[RowResult], metric: Metric) -> Interval:
    """The metric of `other` less that of `one`, row by row; both have the same rows in order."""
    assert [row.origin for row in one] == [row.origin for row in other], "the rows are the same"
    mine = [row.parts[metric.name] for row in one]
    theirs = [row.parts[metric.name] for row in other]
    totals = [part.total for part in mine], [part.total for part in theirs]
    if metric.proportion:
        return paired_proportions(*totals)
    return paired_ratios(*totals, [part.weight for part in mine])


def perplexity(loss: Interval) -> Interval:
    """The perplexity of a loss per token, its interval taken along."""
    return loss.through(lambda nats: math.exp(min(700.0, nats)))
