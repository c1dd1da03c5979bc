"""The config of an adapter in PEFT's format, read and checked without loading a model or torch.

Source: https://github.com/huggingface/peft, docs/source/developer_guides/checkpoint.md (0.21).
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from luthier.bounded import read_object, shown
from luthier.bounded_patterns import PatternError, Suffix
from luthier.errors import AdapterError, UnsafeWeightsError
from luthier.limits import PATTERN_STATES, PATTERNS

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
MAX_RANK = 65_536

# Fields that do not change what the tensors mean, or whose meaning is taken from the tensors.
_NEUTRAL = {
    "auto_mapping", "base_model_name_or_path", "revision", "inference_mode", "peft_type", "peft_version",
    "task_type", "fan_in_fan_out", "lora_dropout", "modules_to_save", "r", "lora_alpha", "rank_pattern",
    "alpha_pattern", "target_modules", "exclude_modules", "use_rslora", "layers_to_transform",
    "layers_pattern", "megatron_core", "qalora_group_size", "loftq_config", "eva_config",
    "ensure_weight_tying", "runtime_config", "use_dora",
}  # fmt: skip
_PLAIN_STARTS = (True, False, None, "gaussian", "eva", "orthogonal")


def read_adapter_config(folder: Path) -> dict[str, Any]:
    """The content of an adapter's config, checked for what luthier can apply.

    Raises:
        AdapterError: It is missing, not JSON, lacks rank or alpha, or is of another kind.
    """
    path = folder / CONFIG
    try:
        config = read_object(path, lambda why: refused(folder, f"{CONFIG}: {why}"), same_twice=True)
    except FileNotFoundError:
        raise refused(folder, f"{CONFIG} is missing") from None
    problems = []
    if config.get("peft_type") != "LORA":
        problems.append(f"it is of kind {shown(config.get('peft_type'))}, luthier applies 'LORA'")
    rank = config.get("r")
    if type(rank) is not int or not 1 <= rank <= MAX_RANK:
        problems.append(f"r is {shown(rank)}, 1 to {MAX_RANK:,} is possible")
    alpha = config.get("lora_alpha")
    if (
        isinstance(alpha, bool)
        or not isinstance(alpha, int | float)
        or not 0 < alpha < float("inf")
    ):
        problems.append(f"lora_alpha is {shown(alpha)}, a number above 0 is needed")
    problems += [*_bad_kinds(config), *_bad_patterns(config)]
    start = config.get("init_lora_weights", True)
    if start not in _PLAIN_STARTS:
        problems.append(
            f"init_lora_weights is {shown(start)}, which changes the base's own weights"
        )
    for name, value in config.items():
        plain = name in _NEUTRAL or name in {"init_lora_weights"} or not value
        if not plain and (name, value) != ("bias", "none"):
            problems.append(
                f"{name[:60]} is {shown(value)}; luthier applies LoRA, rank-stabilised LoRA and DoRA"
            )
    if problems:
        raise refused(folder, "; ".join(problems[:8]))
    return config


def scale_of(config: Mapping[str, Any], module: str, rank: int) -> float:
    """The factor on the output of one layer's adapter, as a config that was checked says it."""
    entries = config.get("alpha_pattern") or {}
    found = (value for key, value in entries.items() if Suffix(key).matches(module))
    alpha = float(next(found, config["lora_alpha"]))
    return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)


def refused(folder: Path, why: str) -> AdapterError:
    """The error for a folder whose adapter cannot be used."""
    return AdapterError(
        f"{folder} holds no adapter that can be applied",
        why=why,
        fix="give the folder of a LoRA adapter saved by luthier or PEFT, or merge it where it was made",
    )


def _bad_kinds(config: Mapping[str, Any]) -> list[str]:
    bad = []
    for field, kinds, wanted in (
        ("base_model_name_or_path", (str,), "a text"),
        ("target_modules", (str, list), "a list of names or a pattern"),
        ("modules_to_save", (list,), "a list of names"),
        ("use_rslora", (bool,), "true or false"),
        ("use_dora", (bool,), "true or false"),
    ):
        value = config.get(field)
        texts = not isinstance(value, list) or all(isinstance(item, str) for item in value)
        if value is not None and not (isinstance(value, kinds) and texts):
            bad.append(f"{field} is {shown(value)}, {wanted} is needed")
    dropout = config.get("lora_dropout")
    number = isinstance(dropout, int | float) and not isinstance(dropout, bool)
    if dropout is not None and not (number and 0 <= dropout < 1):
        bad.append(f"lora_dropout is {shown(dropout)}, 0 to below 1 is needed")
    return bad


def _bad_patterns(config: Mapping[str, Any]) -> list[str]:
    """Patterns of the file that cannot be matched, or not in linear time."""
    bad, states = [], 0
    for field in ("rank_pattern", "alpha_pattern"):
        patterns = config.get(field) or {}
        if not isinstance(patterns, Mapping):
            bad.append(f"{field} is not an object")
            continue
        if len(patterns) > PATTERNS:
            bad.append(f"{field} has {len(patterns):,} entries; at most {PATTERNS:,} are read")
            continue
        for key, value in patterns.items():
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if not number or not 0 < value < MAX_RANK:
                bad.append(f"{field} has the entry {shown(key)}: {shown(value)}")
            try:
                states += Suffix(key).num_states
            except PatternError as error:
                bad.append(f"{field} has the entry {shown(key)}: {error}")
            if states > PATTERN_STATES:
                bad.append(f"{field} needs more than {PATTERN_STATES:,} states to be matched")
                return bad
    return bad


def check_weights_there(folder: Path) -> Path:
    """The weights of an adapter's folder, which are there as safetensors.

    Raises:
        UnsafeWeightsError: They are there only as a pickle.
        AdapterError: They are not there.
    """
    path = folder / WEIGHTS
    if path.is_file():
        return path
    if (folder / "adapter_model.bin").is_file():
        raise UnsafeWeightsError(
            f"{folder} has its weights only as adapter_model.bin",
            why="pickled files can run code when they are opened",
            fix="save the adapter again with safetensors: model.save_pretrained(..., safe_serialization=True)",
        )
    raise refused(folder, f"{WEIGHTS} is missing")
