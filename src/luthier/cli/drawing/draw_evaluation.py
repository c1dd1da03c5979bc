"""Figures of models with their intervals, and what a comparison shows."""

from collections.abc import Mapping, Sequence
from typing import Any

from luthier.cli.drawing import render

TITLES = {
    "loss": "loss",
    "perplexity": "perplexity",
    "accuracy": "token accuracy",
    "numeric": "numeric match",
    "exact": "exact match",
    "rouge_l": "ROUGE-L",
    "chrf": "chrF",
    "choice": "choice",
    "choice_norm": "choice by character",
    "preference": "chosen preferred",
    "preference_norm": "chosen preferred by token",
    "rewards_margins": "margin of rewards",
    "rewards_chosen": "reward of chosen",
    "rewards_rejected": "reward of rejected",
    "logps_chosen": "log-probability of chosen",
    "logps_rejected": "log-probability of rejected",
}
"""Figures in the order of the table; the rest only in JSON."""
OF_PAIRS = {"accuracy": "preference accuracy"}


def figures(found: Mapping[str, Any]) -> None:
    """The table of an evaluation, and a sentence for each metric that base and tuned both have."""
    titles = TITLES | (OF_PAIRS if found["kind"] in ("pairs", "labels") else {})
    states = found["figures"]
    first = next(iter(states.values()))
    rows = [
        {f"on {found['rows']['used']:,} rows": title}
        | {
            state: with_interval(values.get(name), found["intervals"][state].get(name))
            for state, values in states.items()
        }
        for name, title in titles.items()
        if name in first
    ]
    render.table(rows, as_json=False)
    if any(found["intervals"].values()):
        render.line(f"[ ]: {found['level']:.0%} intervals, over rows")
    for state, said in found["verdicts"].items():
        verdicts(state, next(iter(states)), said)


def verdicts(name: str, base: str, said: Sequence[Mapping[str, Any]]) -> None:
    """A sentence for each metric of a comparison."""
    for one in said:
        low, high = one["interval"]
        render.line(
            f"{name} against {base}, {TITLES[one['metric']]}: {one['verdict']} "
            f"({one['difference']:+.4g}, between {low:+.4g} and {high:+.4g})"
        )


def with_interval(value: float | None, interval: Mapping[str, Any] | None) -> str:
    """`1.732 [1.61, 1.86]`."""
    if value is None or interval is None:
        return render.cell(value)
    return f"{render.cell(value)} [{interval['low']:.4g}, {interval['high']:.4g}]"
