"""What a card of the gallery says about a model and its family.  Facts without a source are left out."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

Template = Literal["present", "thinking", "gallery", "none"]
"""`present`: the tokenizer carries one.  `thinking`: the same, and it writes or drops reasoning.
`gallery`: it carries none, the published one comes from this package.  `none`: neither; ChatML is
used.  No template needs generation marks: what is learned from is found in the rendered text."""

Tested = Literal["weights", "architecture", "no"]
"""`weights`: trained here with its published weights.  `architecture`: the tests train a small
random model of the same class.  `no`: neither."""


@dataclass(frozen=True, slots=True)
class Trap:
    """Something that goes wrong with this model elsewhere, or surprises; where it was learned."""

    text: str
    source: str = ""


@dataclass(frozen=True, slots=True)
class Recommendation:
    """A setting that this model wants other than the library's default, for some kinds of run."""

    setting: str
    value: Any
    source: str
    methods: tuple[str, ...] = ()
    objectives: tuple[str, ...] = ()

    def fits(self, method: str, objective: str) -> bool:
        """Whether it is meant for such a run; no method or objective named means all."""
        return (not self.methods or method in self.methods) and (
            not self.objectives or objective in self.objectives
        )


@dataclass(frozen=True, slots=True)
class GalleryModel:
    """A published model.  `context` in tokens; `parameters` counts a tied embedding once.

    Args:
        name: What it is called here, lower case.
        modelscope: Its id on ModelScope, where that is known.
        gated: Whether a licence has to be accepted before it can be fetched; None: not known.
        base: Pre-trained only, not tuned to answer.
        languages: ISO 639 codes that its publisher names; may be a selection (`languages_note`).
        architecture: The fields of its `config.json` that size depends on; empty if not known.
        trains: Whether luthier trains it; its family says why not.
    """

    name: str
    family: str
    hub: str | None
    licence: str
    context: int | None
    parameters: int | None
    title: str = ""
    modelscope: str | None = None
    gated: bool | None = None
    base: bool = False
    languages: tuple[str, ...] = ()
    languages_note: str = ""
    architecture: Mapping[str, object] = field(default_factory=lambda: MappingProxyType({}))
    template: Template | None = None
    tokenizer: str = ""
    tested: Tested = "no"
    trains: bool = True
    traps: tuple[Trap, ...] = ()
    recommended: tuple[Recommendation, ...] = ()

    def recommendations(self, method: str, objective: str) -> dict[str, Recommendation]:
        """What its card recommends for such a run, by setting."""
        return {one.setting: one for one in self.recommended if one.fits(method, objective)}


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
    names: those run one sequence at a time, with a notice, and are never packed.  `trains` is
    False where luthier would compute something else than the model; `reason` says what.
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
    trains: bool = True
    chat_template: str | None = None
    templates: tuple[TemplateRule, ...] = ()
    models: tuple[GalleryModel, ...] = ()
