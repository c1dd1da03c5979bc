"""`luthier doctor`: what this machine has, what is missing, and the command that mends it."""

import typer

from luthier.cli.options import AsJson


def register(app: typer.Typer, asked: str | None) -> None:
    """Add the command."""
    app.command()(doctor)


def doctor(as_json: AsJson = False) -> None:
    """What this machine has: devices, memory, libraries, and what is missing."""
    from luthier.cli.drawing import render
    from luthier.recipes.doctor import examine

    found = examine()
    render.facts(found, as_json=as_json)
    raise typer.Exit(2 if found["missing"] else 0)
