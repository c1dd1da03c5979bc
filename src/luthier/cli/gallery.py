"""`luthier gallery`: the models and families that are known by name."""

from typing import Annotated

import typer

from luthier.cli.options import AsJson

gallery = typer.Typer(help="List and show models.", no_args_is_help=True, rich_markup_mode=None)


def register(app: typer.Typer, asked: str | None) -> None:
    """Add the commands."""
    app.add_typer(gallery, name="gallery")


@gallery.command("list")
def list_(as_json: AsJson = False) -> None:
    """Every model with its family, size, context and licence."""
    from luthier import gallery as catalogue
    from luthier.cli import render
    from luthier.units import format_count

    rows = [
        {
            "model": model.name,
            "family": model.family,
            "parameters": model.parameters
            if as_json or model.parameters is None
            else format_count(model.parameters),
            "context": model.context,
            "licence": model.licence,
        }
        for model in catalogue.all_models()
    ]
    render.table(rows, as_json=as_json)


@gallery.command()
def show(
    name: Annotated[str, typer.Argument(help="Name of a model.", show_default=False)],
    as_json: AsJson = False,
) -> None:
    """One model: where it comes from and how its family is trained."""
    from luthier import gallery as catalogue
    from luthier.cli import render
    from luthier.errors import ModelNotFoundError

    model = catalogue.find_model(name)
    if model is None:
        near = catalogue.nearest_names(name)
        raise ModelNotFoundError(
            f"{name!r} is not in the gallery",
            why="it holds names of models, folders are given by path",
            fix=f"luthier gallery show {near[0]}" if near else "luthier gallery list",
        )
    family = next(one for one in catalogue.all_families() if one.name == model.family)
    about = {
        "model": model.name,
        "hub": model.hub,
        "licence": model.licence,
        "parameters": model.parameters,
        "context": model.context,
        "family": family.title,
        "packed": family.packable,
        "lora_target_modules": list(family.lora_targets),
        "all-linear": list(family.all_linear_targets),
        "notes": family.notes or None,
    }
    render.facts(about, as_json=as_json)
