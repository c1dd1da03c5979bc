"""The catalogue of model families and models: one YAML file a family, read once.

A family says how its members are trained: which matrices LoRA adapts by default, whether several
sequences may share a row, and the chat template of those whose tokenizer carries none.  No torch.
"""

import difflib
import itertools
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from types import MappingProxyType
from typing import Any

import yaml

from luthier.gallery.cards import Family, GalleryModel, Recommendation, TemplateRule, Trap

_SafeLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast, where it is built

_GENERIC = Family(
    name="unknown",
    title="Unknown",
    model_types=(),
    lora_targets=(),
    all_linear_targets=(),
    packable=False,
    reason="no test has shown that several of its sequences can share a row",
    known=False,
)


def family_of(config: str | Mapping[str, Any]) -> Family:
    """The family of a `config.json`, or of a bare `model_type`, with the template that fits it.

    Returns:
        A family with `known=False`, not packable and without targets, for a type no file names.
    """
    fields: Mapping[str, Any] = {"model_type": config} if isinstance(config, str) else config
    model_type = fields.get("model_type")
    family = _by_type().get(model_type) if isinstance(model_type, str) else None
    if family is None:
        return replace(_GENERIC, model_types=(model_type,) if isinstance(model_type, str) else ())
    size = fields.get("vocab_size")
    text = next((rule.text for rule in family.templates if rule.vocab_size == size), None)
    return replace(family, chat_template=text)


def find_model(name: str) -> GalleryModel | None:
    """The model of this gallery name or hub id, upper and lower case alike."""
    return _by_name().get(name.lower())


def nearest_names(name: str, *, count: int = 3) -> list[str]:
    """Gallery names that look like `name`, the most alike first; a common beginning counts most."""
    short = name.rsplit("/", 1)[-1].lower()

    def likeness(known: str) -> float:
        matcher = difflib.SequenceMatcher(None, short, known)
        same = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(short, known, strict=False))
        return matcher.ratio() + len(list(same)) / max(len(short), 1)

    ranked = sorted(((likeness(model.name), model.name) for model in all_models()), reverse=True)
    return [known for score, known in ranked[:count] if score >= 0.6]


@cache
def all_families() -> tuple[Family, ...]:
    """Every family of the package, by name."""
    folder = files("luthier.gallery") / "families"
    found = sorted((entry for entry in folder.iterdir() if entry.name.endswith(".yaml")), key=_name)
    return tuple(_read(entry) for entry in found)


def all_models() -> tuple[GalleryModel, ...]:
    """Every model of every family."""
    return tuple(model for family in all_families() for model in family.models)


def _name(entry: Traversable) -> str:
    return entry.name


@cache
def _by_type() -> dict[str, Family]:
    return {kind: family for family in all_families() for kind in family.model_types}


@cache
def _by_name() -> dict[str, GalleryModel]:
    return {key.lower(): model for model in all_models() for key in (model.name, model.hub) if key}


_INHERITED = ("lora_targets", "all_linear_targets", "packable", "reason", "experts", "trains")


@cache
def _fields(name: str) -> Mapping[str, Any]:
    """The YAML of a family, with what it takes over from the one it extends."""
    path = files("luthier.gallery") / "families" / f"{name}.yaml"
    fields: dict[str, Any] = yaml.load(path.read_text(encoding="utf-8"), _SafeLoader)
    if parent := fields.pop("extends", None):
        above = _fields(parent)
        taken = {key: above[key] for key in _INHERITED if key in above}
        fields = {**taken, "model_types": (), "layout": above["model_types"][0], **fields}
    else:
        fields["layout"] = fields["model_types"][0]
    return fields


def _read(entry: Traversable) -> Family:
    name = entry.name.removesuffix(".yaml")
    fields = _fields(name)
    folder = files("luthier.gallery") / "templates"
    rules = tuple(
        TemplateRule(rule["vocab_size"], (folder / rule["file"]).read_text(encoding="utf-8"))
        for rule in fields.get("templates", ())
    )
    return Family(
        name=name,
        title=fields["title"],
        model_types=tuple(fields["model_types"]),
        lora_targets=tuple(fields["lora_targets"]),
        all_linear_targets=tuple(fields["all_linear_targets"]),
        packable=fields["packable"],
        reason=fields.get("reason", ""),
        notes=fields.get("notes", ""),
        experts=fields.get("experts", False),
        trains=fields.get("trains", True),
        templates=rules,
        models=tuple(_model(name, fields, entry) for entry in fields["models"]),
    )


def _model(family: str, fields: Mapping[str, Any], entry: Mapping[str, Any]) -> GalleryModel:
    """One model: what its entry says, else what the family's `defaults` say."""
    card = {**fields.get("defaults", {}), **entry}
    shape = fields["shapes"][card.pop("shape")] if "shape" in card else None
    architecture = {"model_type": fields["layout"], **shape} if shape else {}
    name = card["name"]

    def meant(part: Mapping[str, Any]) -> bool:
        return name in part.get("models", (name,))

    return GalleryModel(
        **{
            **card,
            "family": family,
            "parameters": card.get("parameters"),
            "title": fields["title"],
            "languages": tuple(card.get("languages", ())),
            "architecture": MappingProxyType(architecture),
            "trains": fields.get("trains", True),
            "traps": tuple(
                Trap(part["text"], part.get("source", ""))
                for part in fields.get("traps", ())
                if meant(part)
            ),
            "recommended": tuple(
                Recommendation(
                    part["setting"],
                    part["value"],
                    part["source"],
                    tuple(part.get("method", ())),
                    tuple(part.get("objective", ())),
                )
                for part in fields.get("recommended", ())
                if meant(part)
            ),
        }
    )
