"""`luthier advise`: settings for some rows, a model and a machine, with the reason of each."""

from pathlib import Path
from typing import Annotated

import typer

from luthier.cli.options import AsJson, Lang

Goal = Annotated[str, typer.Option(help="What it is for, in words: 'write SQL', 'be polite'.")]
Machine = Annotated[
    str | None, typer.Option("--device", help="A machine that may not be here: 'T4 16GB'.")
]
Output = Annotated[
    Path | None, typer.Option(help="Write the config, with its reasons, to this file.")
]


def register(app: typer.Typer, asked: str | None) -> None:
    """Add the command; the flags of settings only where they are asked for."""
    if asked == "advise":
        from luthier.cli.flags import with_settings

        app.command()(with_settings(advise))
    else:
        app.command("advise", help=advise.__doc__)(lambda: None)


def advise(
    flags: dict[str, object],
    goal: Goal = "",
    device: Machine = None,
    lang: Lang = None,
    output: Output = None,
    as_json: AsJson = False,
) -> None:
    """Choose settings for your data, model and machine, each with its reason.  Settings that are
    given are kept."""
    from luthier.cli.drawing import render
    from luthier.cli.drawing.draw_advice import show
    from luthier.config import read
    from luthier.durable import write_atomic
    from luthier.languages import chosen
    from luthier.recipes.before.advise import advise_run

    advice = advise_run(read.load(None, flags), goal=goal, device=device, lang=chosen(lang))
    if output is not None:
        write_atomic(output, advice.to_yaml(), exclusive=True)
    if as_json:
        render.dump(advice.to_dict())
        return
    show(advice, written=output)
