"""`luthier compare`: the answers of several models to the same questions."""

from typing import Annotated

import typer

from luthier.cli.options import AsJson

Names = Annotated[
    list[str], typer.Argument(help="Runs or models, two or more.", show_default=False)
]
Prompts = Annotated[list[str], typer.Option("--prompt", help="A question; may be repeated.")]
MaxNew = Annotated[int, typer.Option("--max-new-tokens", help="Longest answer, in tokens.")]


def register(app: typer.Typer, asked: str | None) -> None:
    """Add the command."""
    app.command()(compare)


def compare(
    names: Names, prompt: Prompts, max_new_tokens: MaxNew = 256, as_json: AsJson = False
) -> None:
    """What several runs or models answer to the same questions, side by side."""
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
