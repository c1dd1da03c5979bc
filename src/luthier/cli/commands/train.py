"""`luthier train`: settings in, a run directory out."""

from pathlib import Path
from typing import Annotated

import typer

from luthier.cli.options import AsJson
from luthier.events import Event

ConfigFile = Annotated[
    Path | None, typer.Argument(help="YAML or JSON file of settings.", show_default=False)
]


def register(app: typer.Typer, asked: str | None) -> None:
    """Add the command; its 60 flags only where they are asked for."""
    if asked == "train":
        from luthier.cli.flags import with_settings

        app.command()(with_settings(train))
    else:
        app.command("train", help=train.__doc__)(lambda: None)


IgnorePlan = Annotated[
    bool,
    typer.Option("--ignore-plan", "--ignore_plan", help="Train although it will not fit, by plan."),
]


NoProof = Annotated[
    bool,
    typer.Option(
        "--no-proof", "--no_proof", help="Do not open the result in transformers before the end."
    ),
]


def train(
    flags: dict[str, object],
    config: ConfigFile = None,
    as_json: AsJson = False,
    ignore_plan: IgnorePlan = False,
    no_proof: NoProof = False,
) -> None:
    """Fine-tune a model.  Every setting of the file is also a flag, and the flag wins."""
    import os
    import sys

    from luthier.cli.drawing import next_steps, render
    from luthier.cli.drawing.watcher import RunDisplay
    from luthier.config.continued import load_or_continue
    from luthier.config.launch_file import Wishes
    from luthier.recipes.before.preflight import preflight
    from luthier.recipes.before.proof_wanted import SKIP

    if no_proof:
        os.environ[SKIP] = "1"
    resolved = load_or_continue(config, flags)
    preflight(resolved)
    if not as_json:
        render.line("settings and rows are right; the libraries are loaded now, some seconds")
    from luthier.recipes.run.train import run  # imports torch: only when asked to train

    with RunDisplay(as_json=as_json) as watcher:

        def show(event: Event) -> None:
            if as_json or event.type != "failed":  # `main` reports the error itself, with its fix
                try:
                    watcher.on_event(event)
                except BrokenPipeError:  # `luthier train ... | head`: nobody reads, the run goes on
                    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

        result = run(resolved, on_event=show, wishes=Wishes(ignore_plan=ignore_plan))
    if not as_json:
        next_steps.show(
            next_steps.after_training(result.path, reason=result.reason, step=result.step)
        )
    raise typer.Exit(result.exit_code)
