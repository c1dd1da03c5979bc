"""Figures of models with their intervals, and what a comparison shows."""

from typing import TYPE_CHECKING

from luthier.cli.drawing import render

if TYPE_CHECKING:
    from luthier.evaluation.interval import Interval
    from luthier.evaluation.result import Section

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


def figures(section: "Section") -> None:
    """The table of models on the same rows, and a sentence for each metric they share."""
    titles = TITLES | (OF_PAIRS if section.kind in ("pairs", "labels") else {})
    rows = [
        {f"on {section.counts['used']:,} rows": title}
        | {
            one.title: _cell(one.figures.get(name), one.intervals.get(name))
            for one in section.measured
        }
        for name, title in titles.items()
        if any(name in one.figures for one in section.measured)
    ]
    render.table(rows, as_json=False)
    if any(one.intervals for one in section.measured):
        render.line("[ ]: 95 % intervals, over rows")
    base = section.measured[0].title
    for name, said in section.verdicts.items():
        for one in said:
            found = one.difference
            render.line(
                f"{name} against {base}, {titles[one.metric.name]}: {one.word} "
                f"({found.value:+.4g}, between {found.low:+.4g} and {found.high:+.4g})"
            )
    for name, judged in section.judged.items():
        found_by = judged.as_dict()
        render.line(
            f"{name} against {base}, by the judge: {judged.word} (won {found_by['wins']}, lost "
            f"{found_by['losses']}, tied {found_by['ties']})"
        )


def answers(section: "Section", most: int = 8) -> None:
    """The first written answers, side by side."""
    names = [one.title for one in section.measured]
    for rows in list(zip(*(one.rows for one in section.measured), strict=True))[:most]:
        if all(row.answer is not None for row in rows):
            render.line(f"> {' '.join(rows[0].prompt.split())[:200]}")
            render.side_by_side(names, [row.answer or "" for row in rows])
            render.line("")


def _cell(value: float | None, interval: "Interval | None") -> str:
    """A value and both ends behind it: `1.732 [1.61, 1.86]`."""
    if value is None or interval is None:
        return render.cell(value)
    return f"{render.cell(value)} [{interval.low:.4g}, {interval.high:.4g}]"
