"""What a helper can be asked, by name: plain data in, plain data out, no torch."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from luthier.config.read import Resolved

Request = Mapping[str, Any]
Reply = Mapping[str, object]


def preview(request: Request) -> Reply:
    """Rows as training gets them: `settings`, `first` (1 is the first row), `count`."""
    from luthier.config import read
    from luthier.recipes.before.preview import previews

    resolved = read.load(dict(request["settings"]), {})
    return previews(resolved.settings, first=request.get("first", 1), count=request["count"])


def render(request: Request) -> Reply:
    """The prompt that `messages` (and `tools`) make for `model`: its text, tokens and pieces."""
    from luthier.recipes.after.rendering import open_rendering, read_dialogue
    from luthier.sources.source import resolve_source

    opened = open_rendering(resolve_source(request["model"]))
    messages = read_dialogue(request["messages"])
    ids = [int(one) for one in opened.renderer.prompt(messages, request.get("tools") or ())]
    pieces = [opened.tokenizer.decode([one]) for one in ids]
    return {
        "text": opened.tokenizer.decode(ids),
        "ids": ids,
        "pieces": pieces,
        "tokens": len(ids),
        "notices": opened.notices,
    }


def describe_model(request: Request) -> Reply:
    """What `model` is: folders, family, adapter, the limits of its tokenizer and context."""
    from luthier.gallery import context_length
    from luthier.recipes.after.rendering import open_rendering
    from luthier.sources.source import resolve_source

    source = resolve_source(request["model"])
    opened = open_rendering(source)
    return {
        "name": source.name,
        "base": str(source.base),
        "adapter": str(source.adapter) if source.adapter else None,
        "family": source.family.name,
        "context": context_length(source.config),
        "vocabulary": opened.tokenizer.vocab_size,
        "system_prompt": opened.system_prompt,
        "notices": opened.notices,
    }


def check(request: Request) -> Reply:
    """The doctor's report of `files` for `model` (or the starter), `objective` and `columns`."""
    from luthier.data.doctor.spoken import spoken
    from luthier.recipes.before.check import check_data

    return spoken(check_data(_resolved(request)).to_dict(), request.get("lang") or "en")


def raw(request: Request) -> Reply:
    """The first `count` rows of `file` as they were written, and what their columns may hold."""
    from luthier.recipes.before.raw_rows import raw_rows

    return raw_rows(request["file"], count=request["count"])


def fix(request: Request) -> Reply:
    """`file`, read with `columns`, with the safe fixes applied, as `target`; what was done."""
    from luthier.data import doctor

    columns = request.get("columns")
    report = doctor.fix(request["file"], request["target"], columns=columns)
    Path(report.changes).unlink()  # names rows of a file that the asker knows by another name
    done = [{"code": code, "count": count} for code, count in report.done.most_common()]
    return {"done": done, "rows": report.rows, "written": report.written}


def advise(request: Request) -> Reply:
    """Settings for `model` and `files`, each with its reason in `lang`, towards a `goal`."""
    from luthier.recipes.before.advise import advise_run

    advice = advise_run(_resolved(request), goal=request.get("goal") or "", lang=request["lang"])
    return advice.to_dict()


def _resolved(request: Request) -> "Resolved":
    from luthier.config import read

    given = {"model": request.get("model") or "starter", "dataset": list(request["files"])}
    said = {name: request.get(name) for name in ("objective", "columns")}
    return read.load({**given, **{name: value for name, value in said.items() if value}}, {})


def batches(request: Request) -> Reply:
    """Peak and time of batch sizes and lengths for a run with `settings` on `device`."""
    from luthier.planner.device import Device
    from luthier.recipes.before.batches import batch_table
    from luthier.recipes.before.planned import make_plan

    named = request.get("device")
    device = Device.parse(named) if named else None
    return batch_table(make_plan(dict(request["settings"]), device=device)).to_dict()


def plan(request: Request) -> Reply:
    """What a run with `settings` takes on `device` (this machine where it is null)."""
    from luthier.planner.device import Device
    from luthier.recipes.before.planned import make_plan

    named = request.get("device")
    found = make_plan(dict(request["settings"]), device=Device.parse(named) if named else None)
    return {**found.plan.to_dict(), "resolved": found.settings.model_dump(mode="json")}


def gallery_marks(request: Request) -> Reply:
    """Whether models of the gallery (`names`, or all) fit `device`, by method."""
    from luthier.gallery import all_models
    from luthier.planner.device import Device, this_machine
    from luthier.planner.marks import fit_marks

    named, wanted = request.get("device"), request.get("names")
    device = Device.parse(named) if named else this_machine()
    marks = {
        model.name: {
            method: mark._asdict() for method, mark in fit_marks(model.architecture, device).items()
        }
        for model in all_models()
        if model.architecture and (wanted is None or model.name in wanted)
    }
    return {"device": device.name, "marks": marks}


def formats(request: Request) -> Reply:
    """The formats of rows that are recognised, with an example of each."""
    from luthier.data.formats import FORMATS

    names = {"format": "name", "kind": "kind", "meaning": "description", "example": "example"}
    found = [{ours: getattr(one, theirs) for ours, theirs in names.items()} for one in FORMATS]
    return {"formats": found}


TASKS: dict[str, Callable[[Request], Reply]] = {
    "preview": preview,
    "render": render,
    "describe_model": describe_model,
    "check": check,
    "raw": raw,
    "fix": fix,
    "advise": advise,
    "plan": plan,
    "batches": batches,
    "gallery_marks": gallery_marks,
    "formats": formats,
}
