"""`luthier eval`: held-out figures of a run or a model."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Protocol

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
Metrics = Annotated[
    str | None,
    typer.Option(
        help="Metrics of answers, with commas: numeric, exact, rouge_l, chrf; or loss for none. "
        "Not given: what the rows call for.",
        show_default=False,
    ),
]
MaxNew = Annotated[int, typer.Option("--max-new-tokens", help="Longest answer, in tokens.")]


Report = Annotated[
    Path | None, typer.Option("--report", help="Write a page of HTML too, to this file.")
]


def register(app: typer.Typer, asked: str | None) -> None:
    """Add the command."""
    app.command("eval")(evaluate)


def evaluate(
    name: Name,
    dataset: Dataset,
    objective: Objective = None,
    metrics: Metrics = None,
    max_new_tokens: MaxNew = 256,
    report: Report = None,
    as_json: AsJson = False,
) -> None:
    """Measure a run or a model on held-out rows, the base beside it if it is an adapter."""
    from luthier.cli.drawing import draw_evaluation
    from luthier.errors import UsageError

    if objective not in (None, "sft", "text", "dpo", "kto"):
        raise UsageError(
            f"--objective {objective}",
            why="rows are measured as sft, text, dpo or kto",
            fix="--objective sft",
        )
    check_report(report)
    from luthier.recipes.after.evaluate import evaluate_model

    wanted = None if metrics is None else [name.strip() for name in metrics.split(",")]
    found = evaluate_model(
        name, dataset, objective=objective, metrics=wanted, max_new_tokens=max_new_tokens
    )
    tell(found, report, as_json, lambda: draw_evaluation.figures(found.section))


class Reportable(Protocol):
    """What was measured, as an evaluation and a comparison have it."""

    @property
    def notices(self) -> Sequence[str]: ...
    def report(self) -> str: ...
    def as_dict(self) -> Mapping[str, object]: ...


def tell(found: Reportable, report: Path | None, as_json: bool, draw: Callable[[], None]) -> None:
    """Write the report that was asked for, and show the figures.

    Args:
        draw: Shows them to a person.
    """
    from luthier.cli.drawing import render
    from luthier.durable import write_atomic

    if report is not None:
        write_atomic(report, found.report().encode())
    if as_json:
        render.dump(found.as_dict())
        return
    for notice in found.notices:
        typer.echo(f"notice: {render.clean(notice)}", err=True)
    draw()
    if report is not None:
        render.line(f"report: {report}")


def check_report(report: Path | None) -> None:
    """Refuse, before any work, a report that could not be written.

    Raises:
        UsageError: Its folder is not there, or it is a folder itself.
    """
    from luthier.errors import UsageError

    if report is not None and (report.is_dir() or not report.absolute().parent.is_dir()):
        raise UsageError(
            f"--report {report}",
            why="it is the name of a file, in a folder that is there",
            fix="--report report.html",
        )
