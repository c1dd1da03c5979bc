"""`luthier plan`: memory, time and disk of a run before anything is loaded."""

from pathlib import Path
from typing import Annotated

import typer

from luthier.cli.options import AsJson

ConfigFile = Annotated[
    Path | None, typer.Argument(help="YAML or JSON file of settings.", show_default=False)
]
DeviceName = Annotated[
    str | None,
    typer.Option(
        "--device",
        help='Plan for another machine: "T4 16GB", "2x A100 80GB", "cpu 24GB".',
        show_default="this machine",
    ),
]


Exact = Annotated[
    bool,
    typer.Option(
        "--exact", help="Also walk through one real step without memory or weights: seconds."
    ),
]


Batches = Annotated[
    bool,
    typer.Option(
        "--batches", help="Also peak and time of other batch sizes and lengths, as a table."
    ),
]


def register(app: typer.Typer, asked: str | None) -> None:
    """Add the command; its 60 flags only where they are asked for."""
    if asked == "plan":
        from luthier.cli.flags import with_settings

        app.command()(with_settings(plan))
    else:
        app.command("plan", help=plan.__doc__)(lambda: None)


def plan(
    flags: dict[str, object],
    config: ConfigFile = None,
    device: DeviceName = None,
    exact: Exact = False,
    batches: Batches = False,
    as_json: AsJson = False,
) -> None:
    """Memory, time and disk of a run; whether it fits, and what to change if not.

    Takes every setting that `luthier train` takes; without `dataset` the longest rows are assumed.
    Exits with 2 where the run does not fit.
    """
    from luthier.cli.drawing import draw_plan, render
    from luthier.planner.device import Device
    from luthier.recipes.before.planned import make_plan

    planned = make_plan(config, flags, device=Device.parse(device) if device else None)
    walked, table = None, None
    if exact:
        from luthier.recipes.exact.walk import walk

        walked = walk(planned)
    if batches:
        from luthier.recipes.before.batches import batch_table

        table = batch_table(planned)
    if as_json:
        more = {} if walked is None else {"exact": walked.to_dict()}
        more |= {} if table is None else {"batches": table.to_dict()}
        render.dump({**planned.plan.to_dict(), **more})
    else:
        draw_plan.show(planned.plan, planned.settings)
        if walked is not None:
            draw_plan.exact(walked, planned.plan)
        if table is not None:
            from luthier.cli.drawing import draw_batches

            draw_batches.show(table)
    raise typer.Exit(2 if planned.plan.verdict == "no" else 0)
