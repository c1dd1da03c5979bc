"""A plan from settings as they are given: model and data are found, as far as they are at hand.

No weight is read and nothing is fetched.  Settings may lack a `dataset`; a model may be a name of
the gallery whose files are not here.  What had to be assumed is in the plan's notes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from luthier.config import files, read
from luthier.config.names import ALIASES
from luthier.config.read import Resolved
from luthier.config.settings import Settings
from luthier.errors import ModelNotFoundError
from luthier.gallery import find_model, nearest_names
from luthier.planner.data_shape import DataShape
from luthier.planner.device import Device, this_machine
from luthier.planner.plan import Plan
from luthier.recipes.before.card_settings import follow_card
from luthier.recipes.before.deciding import Decided, decide

if TYPE_CHECKING:
    from luthier.sources.source import ModelSource

NO_DATA = "(no data)"
"""Stands where settings without a data set are planned."""


@dataclass(frozen=True)
class PlannedRun:
    """A plan, and what it was made from.

    Args:
        config: The base's `config.json`, or what the gallery has of it.
        data: Lengths of the rows, or None where there are none.
    """

    decided: Decided
    config: Mapping[str, Any]
    data: DataShape | None

    @property
    def plan(self) -> Plan:
        return self.decided.plan

    @property
    def settings(self) -> Settings:
        """With nothing left open."""
        return self.decided.settings


def make_plan(
    config: Path | Mapping[str, Any] | None,
    flags: Mapping[str, object] | None = None,
    *,
    device: Device | None = None,
) -> PlannedRun:
    """Plan a run from a file of settings, a mapping, flags, or several of them.

    Args:
        device: None for this machine.

    Raises:
        ModelNotFoundError: The model is neither here nor in the gallery with its numbers.
        LuthierError: What is wrong with settings or data.
    """
    resolved = _load(config, flags or {})
    settings = resolved.settings
    source = _at_hand(settings)
    if source is not None:
        from luthier.recipes.before.start import agree_with_start

        resolved = agree_with_start(resolved, source)
        settings = resolved.settings
        architecture: Mapping[str, object] = source.config
    else:
        architecture = _from_gallery(settings.model)
    resolved = follow_card(resolved, settings.model if source is None else source.name)
    settings = resolved.settings
    data: DataShape | None = None
    notes: list[str] = []
    if settings.dataset != (NO_DATA,):
        from luthier.recipes.before.lengths import (
            lengths_of,
        )  # the libraries that read data are not light

        data, notes = lengths_of(settings, source, architecture)
    device = device or this_machine(settings.devices)
    if device.count != settings.devices:
        resolved = resolved.fill(devices=(max(device.count, settings.devices), "of --device"))
        settings = resolved.settings
        device = replace(device, count=settings.devices)
    decided = decide(resolved, architecture, data, device, notes=tuple(notes))
    return PlannedRun(decided, architecture, data)


def _load(config: Path | Mapping[str, object] | None, flags: Mapping[str, object]) -> Resolved:
    """Settings, with a place holder where no data are named."""
    names = set(flags)
    if isinstance(config, Mapping):
        names |= set(config)
    elif config is not None:
        names |= {one.name for one in files.read_given(config, files.read_text(config))}
    if "dataset" in {ALIASES.get(name, name) for name in names}:
        return read.load(config, flags)
    return read.load(config, {**flags, "dataset": NO_DATA})


def _at_hand(settings: Settings) -> "ModelSource | None":
    """The model's files; a gallery model is not looked for on disk where nothing of it is read."""
    known = find_model(settings.model)
    no_data = settings.dataset == (NO_DATA,)
    if no_data and known is not None and known.hub and known.architecture:
        return None
    from luthier.sources.source import resolve_local

    return resolve_local(settings.model)


def _from_gallery(model: str) -> Mapping[str, object]:
    known = find_model(model)
    if known is not None and known.architecture:
        return known.architecture
    near = nearest_names(model)
    raise ModelNotFoundError(
        f"{model} is not at hand, and the gallery has no numbers of it",
        why="a plan needs the model's config.json, or the gallery's excerpt of it",
        fix=f"--model {near[0]}" if near else "luthier gallery pull NAME, or give a folder",
    )
