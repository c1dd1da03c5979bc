"""The catalogue of model families and models: one YAML file a family, read once.

A family says how its members are trained: which matrices LoRA adapts by default, whether several
sequences may share a row, and the chat template of those whose tokenizer carries none.  No torch.
"""

import difflib
import itertools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any

import yaml


@dataclass(frozen=True, slots=True)
class GalleryModel:
    """A published model.  `context` in tokens; `parameters` counts a tied embedding once."""

    name: str
    family: str
    hub: str | None
    licence: str
    context: int | None
    parameters: int | None


@dataclass(frozen=True, slots=True)
class TemplateRule:
    """A chat template for members whose vocabulary has this size."""

    vocab_size: int
    text: str


@dataclass(frozen=True, slots=True)
class Family:
    """What is true of every model of one or several `model_type`s.

    Names of targets are suffixes of module names.  `chat_template` is filled by `family_of` from
    a config; it is for tokenizers that carry none.  `known` is False for types that no file
    names: those run one sequence at a time, with a notice, and are never packed.
    """

    name: str
    title: str
    model_types: tuple[str, ...]
    lora_targets: tuple[str, ...]
    all_linear_targets: tuple[str, ...]
    packable: bool
    reason: str = ""
    notes: str = ""
    experts: bool = False
    known: bool = True
    chat_template: str | None = None
    templates: tuple[TemplateRule, ...] = ()
    models: tuple[GalleryModel, ...] = ()


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


def _read(entry: Traversable) -> Family:
    fields = yaml.safe_load(entry.read_text(encoding="utf-8"))
    name = entry.name.removesuffix(".yaml")
    folder = files("luthier.gallery") / "templates"
    rules = tuple(
        TemplateRule(rule["vocab_size"], (folder / rule["file"]).read_text(encoding="utf-8"))
        for rule in fields.pop("templates", ())
    )
    models = tuple(
        GalleryModel(
            name=model["name"],
            family=name,
            hub=model["hub"],
            licence=model["licence"],
            context=model["context"],
            parameters=model.get("parameters"),
        )
        for model in fields.pop("models")
    )
    for key in ("model_types", "lora_targets", "all_linear_targets"):
        fields[key] = tuple(fields[key])
    return Family(name=name, templates=rules, models=models, **fields)
