"""`luthier gallery`: the models and families that are known by name."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from luthier.cli.options import AsJson

if TYPE_CHECKING:
    from luthier.gallery import GalleryModel
    from luthier.sources.local import LocalModel

gallery = typer.Typer(
    help="List, show and pull models.", no_args_is_help=True, rich_markup_mode=None
)

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
    fits: Annotated[
        str | None, typer.Option(help="Only models that fit: with full, lora or qlora.")
    ] = None,
    tested: Annotated[
        bool, typer.Option("--tested", help="Only architectures that the tests train.")
    ] = False,
    local: Annotated[
        bool, typer.Option("--local", help="Only models on this machine, added folders too.")
    ] = False,
    search: Annotated[str | None, typer.Option(help="Only names with this in them.")] = None,
    device: Annotated[
        str | None, typer.Option(help="Marks for another machine, as 'T4 16GB'.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Every model with its size and licence, and which methods fit this machine."""
    from luthier.cli.drawing import render
    from luthier.cli.gallery_rows import Filter, rows, short

    wanted = Filter(
        family=family,
        language=language,
        max_params=max_params,
        licence=licence,
        fits=fits,
        tested=tested,
        local=local,
        search=search,
    )
    machine, found = rows(wanted, device)
    shown = found if as_json else [short(row) for row in found]
    render.table(shown, as_json=as_json, empty="no model fits these filters")
    if shown and not as_json:
        render.line(
            f"\nfull, lora, qlora: one sequence of 1,024 tokens on {machine}; tight is above 90 % of its memory"
        )


@gallery.command()
def show(name: Name, as_json: AsJson = False) -> None:
    """One model: where it comes from, its numbers, its traps, and how it is trained."""
    from luthier.cli.drawing import render

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
            text = entry.get("text") or (
                f"{entry['setting']} {render.cell(entry['value'])}, for "
                f"{' or '.join(entry['methods'])} with {' or '.join(entry['objectives'])}"
            )
            render.line(f"  - {text}  [{entry['source']}]")


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
    from luthier.planner.device import this_machine
    from luthier.planner.marks import fit_marks
    from luthier.sources.local import find_local
    from luthier.units import format_bytes

    held = find_local(model.name)
    marks = fit_marks(model.architecture, this_machine()) if model.architecture else {}

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
        "on this machine": str(held.path) if held else "no",
        "fits": {
            method: f"{one.mark}, {format_bytes(one.peak_bytes)}" for method, one in marks.items()
        }
        if model.trains
        else {},
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


@gallery.command()
def pull(
    name: Name,
    to: Annotated[
        Path | None, typer.Option(help="Folder it becomes; otherwise one below LUTHIER_HOME.")
    ] = None,
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit.")] = None,
    mirror: Annotated[
        str | None, typer.Option(help="Address of a mirror of the hub; or set HF_ENDPOINT.")
    ] = None,
    modelscope: Annotated[bool, typer.Option("--modelscope", help="Ask ModelScope.")] = False,
    timeout: Annotated[float, typer.Option(help="Longest silence of the hub, seconds.")] = 30.0,
    as_json: AsJson = False,
) -> None:
    """Fetch a model: safetensors and tokenizer only, checked, and taken up where it broke off."""
    from luthier.cli.drawing.draw_pull import PullProgress
    from luthier.sources import at_hand

    with PullProgress() as progress:
        model = at_hand.pull(
            name,
            to=to,
            revision=revision,
            mirror=mirror,
            modelscope=modelscope,
            timeout_s=timeout,
            progress=progress,
        )
    _say(model, as_json)


@gallery.command()
def add(
    folder: Annotated[Path, typer.Argument(help="Folder of a model.", show_default=False)],
    name: Annotated[
        str | None, typer.Option(help="What to call it; otherwise as the folder.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Give a model folder a name, after a look at its config, weights and tokenizer."""
    from luthier.sources import at_hand

    _say(at_hand.add_folder(folder, name), as_json)


@gallery.command()
def forget(name: Name) -> None:
    """Take the name of a pulled or added model away; its folder stays."""
    from luthier.cli.drawing import render
    from luthier.sources.local import forget as take_away

    model = take_away(name)
    render.line(f"{model.name} is forgotten; its files are still in {model.path}")


def _say(model: "LocalModel", as_json: bool) -> None:
    from luthier.cli.drawing import render

    about = {
        "model": model.name,
        "path": str(model.path),
        "hub": model.hub,
        "revision": model.revision,
        "size_bytes": model.num_bytes,
    }
    render.facts(about, as_json=as_json)
    if not as_json:
        render.line(f"use it: luthier train --model {model.name} --dataset rows.jsonl")
