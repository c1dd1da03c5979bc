"""A state of a model on a task: figures as in training, and what it did on each row."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from luthier.data.types import Example
from luthier.engine.distribution import Ranks
from luthier.engine.evaluate import evaluate
from luthier.evaluation.interval import wilson_interval
from luthier.evaluation.metrics import RowResult, RowShare, figure, metrics_of, perplexity
from luthier.evaluation.result import Measured
from luthier.recipes.after.scoring.answers import Written, answerable, grade, write_answers
from luthier.recipes.after.scoring.record import Recorder
from luthier.recipes.after.scoring.subject import Subject, SubjectState
from luthier.recipes.after.scoring.task import Item, Task
from luthier.recipes.run.objective import (
    FeedbackObjective,
    PairObjective,
    TokenObjective,
    labels,
    with_facts,
)
from luthier.recipes.run.steps import Cutter, EvalSource


@dataclass(frozen=True)
class Asked:
    """What is to be measured beside the loss.

    Attributes:
        written: Metrics of written answers; none writes no answer.
        answers: First rows that are answered in writing even where no metric needs it.
        max_new_tokens: Longest answer.
    """

    written: tuple[str, ...] = ()
    answers: int = 0
    max_new_tokens: int = 256


def measure(task: Task, subject: Subject, state: SubjectState, asked: Asked) -> Measured:
    """Score the rows, let the model choose and write, and put all of it together."""
    rows = [RowResult(str(item.origin), item.prompt, item.expected) for item in task.items]
    figures: dict[str, float] = {}
    if task.examples:
        means, table = _scored(task, subject, state, task.examples)
        figures = _trained_figures(task, state, means)
        rows = _with(rows, _token_parts(task, table))
    if task.choices:
        _, table = _scored(task, subject, state, task.choices)
        rows = _with(rows, _choice_parts(task.items, table))
        if task.kind == "options":
            rows = [_chosen(row, task.items[n], table, n) for n, row in enumerate(rows)]
    count = len(task.items) if asked.written else min(asked.answers, len(task.items))
    if count and len(answerable(task.items[:count])) == count:
        answers = write_answers(
            state.trainee, task.renderer, task.items[:count], max_new_tokens=asked.max_new_tokens
        )
        answered = _answered(rows[:count], task.items[:count], answers, asked.written)
        rows = [*answered, *rows[count:]]
    intervals = {metric.name: figure(rows, metric) for metric in metrics_of(rows)}
    if "loss" in intervals:
        intervals["perplexity"] = perplexity(intervals["loss"])
    if task.kind in ("pairs", "labels") and "accuracy" in figures:
        count = len(task.items)
        intervals["accuracy"] = wilson_interval(round(figures["accuracy"] * count), count)
    figures |= {name: found.value for name, found in intervals.items() if name not in figures}
    return Measured(state.title, figures, intervals, rows)


@dataclass(frozen=True)
class _Table:
    """By sequence: log-probability, weight, weight of likeliest tokens; where each sample begins."""

    logp_N: NDArray[np.float64]
    weight_N: NDArray[np.float64]
    right_N: NDArray[np.float64]
    first: NDArray[np.int64]

    def of(self, values_N: NDArray[np.float64], sample: int) -> NDArray[np.float64]:
        """The values of the sequences of a sample."""
        return values_N[self.first[sample] : self.first[sample + 1]]


def _scored(
    task: Task, subject: Subject, state: SubjectState, examples: Sequence[Example]
) -> tuple[dict[str, float], _Table]:
    trainee = state.trainee
    paired = examples is task.examples and subject.compares_pairs
    objective: TokenObjective | PairObjective | FeedbackObjective = TokenObjective(trainee)
    if paired and task.kind == "labels":
        assert state.reference is not None, "KTO compares with a reference"
        wanted_P = labels(examples)
        objective = FeedbackObjective(trainee, state.reference, wanted_P, subject.settings)
    elif paired:
        objective = PairObjective(trainee, state.reference, subject.settings)
    chosen = subject.cut(trainee)
    cutter = Cutter(
        examples,
        objective=task.settings.objective if paired else "sft",
        budget=chosen.tokens,
        share=chosen.share,
        max_sequences=trainee.max_sequences,
        ranks=Ranks(),
        warn=subject.notices.append,
    )
    recorder = Recorder(objective, int(cutter.first_sequence[-1]))
    rows = EvalSource(cutter)
    plan = with_facts(objective, rows)
    means = evaluate(recorder, lambda: plan(0), shrink=rows.shrink)
    table = _Table(recorder.logp_N, recorder.weight_N, recorder.right_N, cutter.first_sequence)
    return means, table


def _trained_figures(task: Task, state: SubjectState, means: dict[str, float]) -> dict[str, float]:
    """Means of the training objective, with the perplexity behind a loss per token."""
    if task.kind in ("pairs", "labels"):
        return means if "rewards_accuracy" in means else {}
    found = {"loss": means["loss"], "perplexity": math.exp(min(700.0, means["loss"]))}
    return found | {name: value for name, value in means.items() if name != "loss"}


def _token_parts(task: Task, table: _Table) -> list[dict[str, RowShare]]:
    if task.kind == "pairs":
        return [_pair_parts(table, n) for n in range(len(task.items))]
    if task.kind == "labels":  # their figures are of the step as a whole
        return [{} for _ in task.items]
    made = []
    for n in range(len(task.items)):
        weight = float(table.of(table.weight_N, n).sum())
        loss = -float(table.of(table.logp_N, n).sum())
        right = float(table.of(table.right_N, n).sum())
        made.append({"loss": RowShare(loss, weight), "accuracy": RowShare(right, weight)})
    return made


def _pair_parts(table: _Table, n: int) -> dict[str, RowShare]:
    chosen, rejected = table.of(table.logp_N, n)
    mean_chosen, mean_rejected = table.of(table.logp_N, n) / table.of(table.weight_N, n)
    return {
        "preference": RowShare(float(chosen > rejected), 1.0),
        "preference_norm": RowShare(float(mean_chosen > mean_rejected), 1.0),
    }


def _choice_parts(items: Sequence[Item], table: _Table) -> list[dict[str, RowShare]]:
    made = []
    for n, item in enumerate(items):
        assert item.question is not None
        logp_O = table.of(table.logp_N, n)
        parts = {"choice": RowShare(float(int(logp_O.argmax()) == item.question.right), 1.0)}
        if not item.question.lettered:
            chars_O = np.array([max(1, len(option)) for option in item.question.options])
            right = int((logp_O / chars_O).argmax()) == item.question.right
            parts["choice_norm"] = RowShare(float(right), 1.0)
        made.append(parts)
    return made


def _chosen(row: RowResult, item: Item, table: _Table, n: int) -> RowResult:
    assert item.question is not None
    best = int(table.of(table.logp_N, n).argmax())
    return RowResult(
        row.origin, row.prompt, row.expected, row.parts, item.question.options[best], True
    )


def _with(rows: Sequence[RowResult], parts: Sequence[dict[str, RowShare]]) -> list[RowResult]:
    return [
        RowResult(
            row.origin, row.prompt, row.expected, {**row.parts, **more}, row.answer, row.whole
        )
        for row, more in zip(rows, parts, strict=True)
    ]


def _answered(
    rows: Sequence[RowResult],
    items: Sequence[Item],
    answers: Sequence[Written],
    metrics: Sequence[str],
) -> list[RowResult]:
    grades = grade(items, answers, metrics)
    return [
        RowResult(
            row.origin,
            row.prompt,
            row.expected,
            {**row.parts, **{name: RowShare(value, 1.0) for name, value in marks.items()}},
            answer.text,
            answer.whole,
            answer.note,
        )
        for row, answer, marks in zip(rows, answers, grades, strict=True)
    ]
