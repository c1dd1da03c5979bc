"""Gallery models and settings as plain data for a page."""

from collections.abc import Collection, Mapping
from dataclasses import fields, is_dataclass
from functools import lru_cache
from typing import Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from luthier.gallery import GalleryModel, all_models
from luthier.planner.device import Device, this_machine
from luthier.planner.marks import fit_marks
from luthier.service.http import page_schemas

SIMPLE = frozenset(
    {"model", "method", "objective", "dataset", "eval_split", "num_train_epochs", "learning_rate",
     "lora_dim", "lora_alpha", "seq_length", "per_device_train_batch_size",
     "gradient_accumulation_steps", "system_prompt", "apply_chat_template", "dpo_beta",
     "load_in_4bit", "load_in_8bit"}
)  # fmt: skip
"""What a form shows at first."""

BRIEF = ("name", "title", "family", "hub", "modelscope", "licence", "gated", "parameters", "context",
         "languages", "template", "tested")  # fmt: skip


def gallery_entry(
    model: GalleryModel,
    marks: Mapping[str, object] | None,
    local: Collection[str],
    *,
    whole: bool = False,
) -> dict[str, object]:
    """A model of the gallery.

    Args:
        marks: For each method whether it fits, and its peak in bytes; None where unknown.
        local: Names of models that are on this machine.
        whole: Every field instead of those of a card.
    """
    known = {one.name for one in fields(model)}
    entry = {name: plain(getattr(model, name)) for name in BRIEF if name in known}
    if whole:
        entry = {name: plain(getattr(model, name)) for name in known}
    entry.setdefault("title", model.name)
    return {**entry, "local": model.name in local or model.hub in local, "marks": marks}


@lru_cache(maxsize=16)
def gallery_marks(device: str | None) -> tuple[str, Mapping[str, Mapping[str, object]]]:
    """The device's name, and for every model whose numbers are known, which methods fit it.

    Args:
        device: As for `luthier plan --device`; None for this machine.

    Raises:
        DeviceError: No such device is known.
    """
    target = this_machine() if device is None else Device.parse(device)
    marks = {
        model.name: {
            method: mark._asdict() for method, mark in fit_marks(model.architecture, target).items()
        }
        for model in all_models()
        if model.architecture and model.trains
    }
    return target.name, marks


def plain(value: object) -> object:
    """The value as JSON can hold it."""
    if is_dataclass(value) and not isinstance(value, type):
        return {one.name: plain(getattr(value, one.name)) for one in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value


def settings_list(
    kind: type[BaseModel], groups: Mapping[str, str]
) -> list[page_schemas.SettingView]:
    """Every field of the settings, in its group, in order."""
    starts, group = {first: title for title, first in groups.items()}, ""
    found: list[page_schemas.SettingView] = []
    for name, field in kind.model_fields.items():
        group = starts.get(name, group)
        default = field.get_default(call_default_factory=True)
        found.append(
            {
                "name": name,
                "type": _type(field.annotation),
                "choices": _choices(field.annotation),
                "default": None if default is PydanticUndefined else default,
                "required": field.is_required(),
                "help": " ".join((field.description or "").split()),
                "group": group,
                "simple": name in SIMPLE,
                "bounds": _bounds(field.metadata),
            }
        )
    return found


def _parts(annotation: object) -> list[object]:
    return [annotation, *(part for inner in get_args(annotation) for part in _parts(inner))]


def _choices(annotation: object) -> list[str]:
    literals = [get_args(part) for part in _parts(annotation) if get_origin(part) is Literal]
    return [word for words in literals for word in words if isinstance(word, str)]


def _type(annotation: object) -> str:
    """The widest kind of value it takes: a form field can be made from it."""
    found = _parts(annotation)
    origins = {get_origin(part) for part in found}
    kinds: tuple[tuple[type, str], ...] = ((dict, "mapping"), (tuple, "list"))
    for kind, name in kinds:
        if kind in origins or kind in found:
            return name
    kinds = ((bool, "boolean"), (float, "number"), (int, "integer"))
    for kind, name in kinds:
        if kind in found:
            return name
    return "choice" if _choices(annotation) else "text"


def _bounds(metadata: Collection[object]) -> dict[str, float]:
    names = {"ge": "min", "gt": "above", "le": "max", "lt": "below"}
    found = {}
    for one in metadata:
        for ours, theirs in names.items():
            value = getattr(one, ours, None)
            if isinstance(value, int | float):
                found[theirs] = value
    return found
