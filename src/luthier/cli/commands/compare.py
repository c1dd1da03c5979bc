"""`luthier compare`: several models on the same rows, with a verdict; or their answers to questions."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from luthier.cli.options import AsJson

if TYPE_CHECKING:
    from luthier.evaluation.judge import Ask
    from luthier.recipes.after.compare import Compared

Names = Annotated[
    list[str],
    typer.Argument(help="Runs or models, two or more; the first is the base.", show_default=False),
]
Dataset = Annotated[
    list[str] | None,
    typer.Option(help="Rows that all are measured on; may be repeated.", show_default=False),
]
General = Annotated[
    list[str] | None,
    typer.Option(help="General rows: what is forgotten shows there.", show_default=False),
]
Prompts = Annotated[
    list[str] | None,
    typer.Option("--prompt", help="A question; may be repeated.", show_default=False),
]
Metrics = Annotated[
    str | None,
    typer.Option(help="Metrics of answers, with commas, as `eval` takes them.", show_default=False),
]
MaxNew = Annotated[int, typer.Option("--max-new-tokens", help="Longest answer, in tokens.")]
Answers = Annotated[int, typer.Option(help="First rows that are answered, shown and judged.")]
Judge = Annotated[
    str | None,
    typer.Option(
        help="Address of an OpenAI-compatible server whose model judges the answers; rows and answers "
        "are sent there. LUTHIER_JUDGE_KEY is its key.",
        show_default=False,
    ),
]
JudgeModel = Annotated[
    str | None,
    typer.Option(
        "--judge-model",
        "--judge_model",
        help="The model that judges, by its name there.",
        show_default=False,
    ),
]
Report = Annotated[
    Path | None, typer.Option("--report", help="Write a page of HTML too, to this file.")
]


def register(app: typer.Typer, asked: str | None) -> None:
    """Add the command."""
    app.command()(compare)


def compare(
    names: Names,
    dataset: Dataset = None,
    general: General = None,
    prompt: Prompts = None,
    metrics: Metrics = None,
    max_new_tokens: MaxNew = 256,
    answers: Answers = 8,
    judge: Judge = None,
    judge_model: JudgeModel = None,
    report: Report = None,
    as_json: AsJson = False,
) -> None:
    """What several runs or models do on the same rows: figures, differences, a verdict, answers."""
    from luthier.cli.commands.eval import check_report

    _check(dataset, prompt, answers, with_rows=bool(general or metrics or judge or report))
    if prompt:
        _answer(names, prompt, max_new_tokens, as_json)
        return
    check_report(report)
    ask = _judge(judge, judge_model)
    from luthier.recipes.after.compare import compare_models

    found = compare_models(
        names,
        dataset or (),
        general=general or (),
        metrics=None if metrics is None else [name.strip() for name in metrics.split(",")],
        max_new_tokens=max_new_tokens,
        answers=answers,
        judge=ask,
    )
    _show(found, report, as_json)


def _check(
    dataset: list[str] | None, prompt: list[str] | None, answers: int, *, with_rows: bool
) -> None:
    from luthier.errors import UsageError

    if bool(prompt) == bool(dataset):
        raise UsageError(
            "--prompt and --dataset" if prompt else "neither --dataset nor --prompt",
            why="models are compared on rows, or by their answers to questions",
            fix="luthier compare starter runs/mine --dataset rows.jsonl",
        )
    if prompt and with_rows:
        raise UsageError(
            "--prompt with an option of --dataset",
            why="general, metrics, judge and report need rows with answers to compare with",
            fix="write the questions as rows: --dataset rows.jsonl",
        )
    if answers < 1:
        raise UsageError(f"--answers {answers}", why="it counts rows, from 1", fix="--answers 8")


def _show(found: "Compared", report: Path | None, as_json: bool) -> None:
    from luthier.cli.commands.eval import tell
    from luthier.cli.drawing import draw_evaluation, render

    def draw() -> None:
        for section in found.sections:
            render.line(section.heading)
            draw_evaluation.figures(section)
            render.line("")
        draw_evaluation.answers(found.sections[0])

    tell(found, report, as_json, draw)


def _judge(address: str | None, model: str | None) -> "Ask | None":
    """What asks the judge, if there is to be one."""
    from luthier.errors import UsageError

    if (address is None) != (model is None):
        raise UsageError(
            "--judge without --judge-model" if model is None else "--judge-model without --judge",
            why="a judge is a model at an address",
            fix="--judge http://127.0.0.1:8000/v1 --judge-model NAME",
        )
    if address is None or model is None:
        return None
    from luthier.recipes.after.ask_judge import JudgeClient

    return JudgeClient(address, model).ask


def _answer(names: list[str], prompt: list[str], max_new_tokens: int, as_json: bool) -> None:
    from luthier.cli.drawing import render
    from luthier.inference.dialogue import Sampling
    from luthier.recipes.after.open_model import open_model

    answers: list[list[str]] = []
    for name in names:  # one after the other: only one model is in memory
        session = open_model(name).chat(sampling=Sampling(max_new_tokens))
        answers.append([])
        for text in prompt:
            session.reset()
            answers[-1].append("".join(session.send(text)).strip())
    rows = [
        {"prompt": text, "answers": dict(zip(names, column, strict=True))}
        for text, column in zip(prompt, zip(*answers, strict=True), strict=True)
    ]
    if as_json:
        render.dump(rows)
        return
    for text, column in zip(prompt, zip(*answers, strict=True), strict=True):
        render.line(f"> {text}")
        render.side_by_side(names, column)
        render.line("")
