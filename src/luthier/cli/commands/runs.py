"""`luthier runs`: what has been trained and what is training, read from run directories."""

from typing import Annotated

import typer

from luthier.cli.options import AsJson

RunName = Annotated[str, typer.Argument(help="Name or folder of a run.", show_default=False)]

runs = typer.Typer(help="List, show and follow runs.", no_args_is_help=True, rich_markup_mode=None)


def register(app: typer.Typer, asked: str | None) -> None:
    """Add the commands."""
    app.add_typer(runs, name="runs")


@runs.command("list")
def list_(as_json: AsJson = False) -> None:
    """Every run this user has started, oldest first."""
    from luthier.cli.drawing import render
    from luthier.runs import list_runs

    found = [run.status() for run in list_runs()]
    rows = [
        {
            "run": status.path.name,
            "state": status.state,
            "step": status.step,
            "steps": status.total_steps,
            "loss": status.loss,
            "path": str(status.path),
        }
        for status in found
    ]
    render.table(rows, as_json=as_json, empty="no runs yet; luthier demo makes the first")


@runs.command()
def show(run: RunName, as_json: AsJson = False) -> None:
    """What a run was asked to do, what its rows became, and where it stands."""
    from luthier.cli.drawing import render
    from luthier.cli.overview import overview
    from luthier.runs import RunDirectory

    render.facts(overview(RunDirectory.open(run)), as_json=as_json)


@runs.command()
def follow(run: RunName, as_json: AsJson = False) -> None:
    """Events of a run as they come, until it ends; Ctrl-C stops watching, not the run."""
    from luthier.cli.drawing.watcher import RunDisplay
    from luthier.cli.overview import watch
    from luthier.runs import RunDirectory

    with RunDisplay(as_json=as_json) as watcher:
        for event in watch(RunDirectory.open(run)):
            watcher.on_event(event)
