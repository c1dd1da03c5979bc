"""`luthier gallery`: the models and families that are known by name."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from luthier.cli.options import AsJson

if TYPE_CHECKING:
    from luthier.gallery import GalleryModel

gallery = typer.Typer(help="List and show models.", no_args_is_help=True, rich_markup_mode=None)

Name = Annotated[str, typer.Argument(help="Name of a model, or its hub id.", show_default=False)]


def register(app: typer.Typer, asked: str | None) -> None:
    """Add the commands."""
    app.add_typer(gallery, name="gallery")


@gallery.command("list")
def list_(
    family: Annotated[str | None, typer.Option(help="Only this family, as qwen3.")] = None,
    language: Annotated[
        str | None, typer.Option(help="Only models whose publisher names it: en, zh, id, vi ...")
    ] = None,
    max_params: Annotated[
        str | None, typer.Option(help="Only models of at most so many parameters: 8B, 600M.")
    ] = None,
    licence: Annotated[str | None, typer.Option(help="Only licences with this in them.")] = None,
    tested: Annotated[
        bool, typer.Option("--tested", help="Only architectures that the tests train.")
    ] = False,
    search: Annotated[str | None, typer.Option(help="Only names with this in them.")] = None,
    as_json: AsJson = False,
) -> None:
    """Every model with its family, size, context and licence."""
    from luthier import gallery as catalogue
    from luthier.cli import render
    from luthier.units import format_count

    most = _count(max_params)
    if family is not None:
        _check_family(family)
    chosen = [
        model
        for model in catalogue.all_models()
        if (family is None or model.family == family.lower())
        and (language is None or language.lower() in model.languages)
        and (most is None or (model.parameters or most + 1) <= most)
        and (licence is None or licence.lower() in model.licence.lower())
        and (not tested or model.tested != "no")
        and (search is None or search.lower() in f"{model.name} {model.hub} {model.title}".lower())
    ]
    rows = [
        {
            "model": model.name,
            "family": model.family,
            "parameters": model.parameters
            if as_json or model.parameters is None
            else format_count(model.parameters),
            "context": model.context,
            "template": model.template,
            "licence": model.licence,
            "gated": model.gated,
        }
        for model in chosen
    ]
    render.table(rows, as_json=as_json, empty="no model fits these filters")


@gallery.command()
def show(name: Name, as_json: AsJson = False) -> None:
    """One model: where it comes from, its numbers, its traps, and how it is trained."""
    from luthier.cli import render

    about = _about(_find(name))
    if as_json:
        render.dump(about)
        return
    traps, recommended = about.pop("traps"), about.pop("recommended")
    render.facts(about, as_json=False)
    for title, entries in (("traps", traps), ("recommended", recommended)):
        if entries:
            render.line(title)
        for entry in entries:
            source = entry.pop("source")
            text = entry.get("text") or ", ".join(
                f"{key} {render.cell(value)}" for key, value in entry.items() if value
            )
            render.line(f"  - {text}" + (f"  [{source}]" if source else ""))


def _find(name: str) -> "GalleryModel":
    from luthier import gallery as catalogue
    from luthier.errors import ModelNotFoundError

    model = catalogue.find_model(name)
    if model is None:
        near = catalogue.nearest_names(name)
        raise ModelNotFoundError(
            f"{name!r} is not in the gallery",
            why="it holds names of models, folders are given by path",
            fix=f"luthier gallery show {near[0]}" if near else "luthier gallery list",
        )
    return model


def _about(model: "GalleryModel") -> dict[str, Any]:
    from luthier import gallery as catalogue

    family = next(one for one in catalogue.all_families() if one.name == model.family)
    active = catalogue.count_active_parameters(model.architecture) if model.architecture else None
    return {
        "model": model.name,
        "title": model.title,
        "hub": model.hub,
        "modelscope": model.modelscope,
        "licence": model.licence,
        "gated": "unverified" if model.gated is None else model.gated,
        "kind": "base: pre-trained only" if model.base else "tuned to answer",
        "parameters": model.parameters,
        "active_parameters": active if active != model.parameters else None,
        "context": model.context,
        "languages": list(model.languages),
        "languages_note": model.languages_note or None,
        "template": model.template,
        "tokenizer": model.tokenizer or None,
        "architecture": dict(model.architecture),
        "family": family.name,
        "trains": model.trains,
        "reason": family.reason or None,
        "packed": family.packable,
        "lora_target_modules": list(family.lora_targets),
        "all-linear": list(family.all_linear_targets),
        "tested": model.tested,
        "notes": family.notes or None,
        "traps": [{"text": trap.text, "source": trap.source} for trap in model.traps],
        "recommended": [
            {
                "setting": one.setting,
                "value": one.value,
                "methods": list(one.methods),
                "objectives": list(one.objectives),
                "source": one.source,
            }
            for one in model.recommended
        ],
    }


def _count(text: str | None) -> int | None:
    """`8B`, `600M` or a plain number, as a number."""
    from luthier.errors import UsageError

    if text is None:
        return None
    units = {"k": 1e3, "m": 1e6, "b": 1e9}
    plain = text.strip().lower()
    size = units.get(plain[-1:], 1)
    try:
        number = float(plain.rstrip("kmb")) * size
    except ValueError:
        number = -1
    if not 0 < number < float("inf"):
        raise UsageError(
            f"--max-params {text!r} is no number of parameters",
            why="a number, or one with k, M or B",
            fix="--max-params 8B",
        )
    return int(number)


def _check_family(name: str) -> None:
    import difflib

    from luthier import gallery as catalogue
    from luthier.errors import UsageError

    known = [family.name for family in catalogue.all_families()]
    if name.lower() not in known:
        near = difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.4) or known[:1]
        raise UsageError(
            f"there is no family {name!r} in the gallery",
            why="families: " + ", ".join(known),
            fix=f"--family {near[0]}",
        )
