"""`luthier eval`: held-out figures of a run or a model."""

from typing import Annotated

import typer

from luthier.cli.options import AsJson

Name = Annotated[
    str,
    typer.Argument(help="A run, a model folder, an adapter, a gallery name.", show_default=False),
]
Dataset = Annotated[
    list[str], typer.Option(help="Rows to measure on; may be repeated.", show_default=False)
]
Objective = Annotated[
    str | None,
    typer.Option(help="sft or text, for what is no run; else that of the training."),
]
TITLES = {
    "loss": "loss",
    "perplexity": "perplexity",
    "accuracy": "token accuracy",
    "rewards_margins": "margin of rewards",
    "rewards_chosen": "reward of chosen",
    "rewards_rejected": "reward of rejected",
    "logps_chosen": "log-probability of chosen",
    "logps_rejected": "log-probability of rejected",
}
"""Figures in the order of the table; the rest only in JSON."""


def register(app: typer.Typer, asked: str | None) -> None:
    """Add the command."""
    app.command("eval")(evaluate)


def evaluate(
    name: Name, dataset: Dataset, objective: Objective = None, as_json: AsJson = False
) -> None:
    """Measure a run or a model on held-out rows, the base beside it if it is an adapter."""
    from luthier.cli.drawing import render
    from luthier.errors import UsageError

    if objective not in (None, "sft", "text", "dpo"):
        raise UsageError(
            f"--objective {objective}",
            why="rows are measured as sft, text or dpo",
            fix="--objective sft",
        )
    from luthier.recipes.after.evaluate import evaluate_model

    found = evaluate_model(name, dataset, objective=objective)
    if as_json:
        render.dump(found.as_dict())
        return
    for notice in found.notices:
        typer.echo(f"notice: {render.clean(notice)}", err=True)
    titles = TITLES | ({"accuracy": "preference accuracy"} if found.objective == "dpo" else {})
    first = next(iter(found.figures.values()))
    rows = [
        {f"on {found.rows['used']:,} rows": title}
        | {column: figures[key] for column, figures in found.figures.items()}
        for key, title in titles.items()
        if key in first
    ]
    render.table(rows, as_json=False)
