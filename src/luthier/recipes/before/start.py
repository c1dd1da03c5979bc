"""What an adapter that training starts from decides, and what may not be said against it."""

from collections.abc import Mapping
from typing import Any

from luthier.config.read import Resolved
from luthier.config.settings import Settings
from luthier.errors import SettingsError
from luthier.planner.shape import Shape
from luthier.sources.adapter_config import read_adapter_config
from luthier.sources.source import ModelSource


def agree_with_start(resolved: Resolved, source: ModelSource) -> Resolved:
    """The settings with rank, alpha and targets of the adapter that training starts from, if any.

    Raises:
        SettingsError: What was given contradicts it; every contradiction in one message.
        AdapterError: Its config cannot be read.
    """
    settings = resolved.settings
    if source.adapter is None:
        if resolved.is_given("lora_dim"):
            _check_rank(settings, source)
        return resolved
    if settings.method == "full":
        raise SettingsError(
            f"method: full and model: {settings.model}, which is an adapter",
            why="every weight can be trained only from whole weights",
            fix="luthier export RUN --to merged --output FOLDER, then --model FOLDER",
        )
    theirs = _shape_of(read_adapter_config(source.adapter))
    given = {name: _given(settings, name, source) for name in theirs if resolved.is_given(name)}
    clashes = [
        f"{name}: {_said(value)}, the adapter has {_said(theirs[name])}"
        for name, value in given.items()
        if value != theirs[name]
    ]
    if clashes:
        raise SettingsError(
            f"model: {settings.model} is an adapter, and settings contradict it: {'; '.join(clashes)}",
            why="training goes on with the adapter that is there, whose shape is fixed",
            fix="leave these settings out; or begin a new adapter on the merged model: "
            f"luthier export {settings.model} --to merged --output FOLDER, then --model FOLDER",
        )
    why = "that of the adapter that training starts from"
    return resolved.fill(**{name: (value, why) for name, value in theirs.items()})


def _check_rank(settings: Settings, source: ModelSource) -> None:
    """Refuse a rank above the model's width: the adapter would be larger than what it adapts."""
    width = Shape.from_config(source.config).hidden
    if settings.method != "full" and 0 < width < settings.lora_dim:
        raise SettingsError(
            f"lora_dim: {settings.lora_dim} on {source.name}, which is {width} wide",
            why=f"no change of a matrix with a side of {width} has a higher rank than {width}",
            fix=f"--lora_dim {min(32, width)}, or --method full",
        )


def _shape_of(config: Mapping[str, Any]) -> dict[str, object]:
    """The settings that an `adapter_config.json` fixes."""
    targets, saved = config.get("target_modules") or (), config.get("modules_to_save") or ()
    shape: dict[str, object] = {"lora_dim": config["r"], "lora_alpha": float(config["lora_alpha"])}
    shape["use_rslora"] = bool(config.get("use_rslora"))
    shape["use_dora"] = bool(config.get("use_dora"))
    if targets:
        names = (targets,) if isinstance(targets, str) else tuple(sorted(targets))
        shape["lora_target_modules"] = names
    return shape | {"modules_to_save": tuple(sorted(saved))}


def _given(settings: Settings, name: str, source: ModelSource) -> object:
    value = getattr(settings, name)
    if value == ("all-linear",):
        value = source.family.all_linear_targets
    return tuple(sorted(value)) if isinstance(value, tuple | list) else value


def _said(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return ", ".join(map(str, value)) if isinstance(value, tuple) else f"{value:g}"
