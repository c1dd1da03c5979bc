"""Which layers an adapter adapts: names from the settings to modules of a model."""

import re
from collections.abc import Sequence
from typing import TypeGuard

from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from luthier.bounded import shown
from luthier.bounded_patterns import Pattern, PatternError
from luthier.errors import TargetError
from luthier.gallery import Family
from luthier.models.quantise import QuantisedLinear

ALL_LINEAR = "all-linear"
Adaptable = nn.Linear | Conv1D | QuantisedLinear
_REGEX = re.compile(r"[*+?^$|\\()\[\]{}]")
_CHOOSERS = {"gate", "router", "shared_expert_gate"}  # they choose experts; nobody adapts them


def is_pattern(targets: str | Sequence[str]) -> TypeGuard[str]:
    """Whether targets are given as one regular expression."""
    return isinstance(targets, str) and bool(_REGEX.search(targets))


def linear_layers(model: PreTrainedModel) -> dict[str, nn.Module]:
    """The layers of the body that can be adapted, by name: linear ones, quantised or not."""
    head = model.get_output_embeddings()
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, Adaptable)
        and module is not head
        and name.rsplit(".", 1)[-1] not in _CHOOSERS
    }


def expert_tensors(model: PreTrainedModel) -> list[str]:
    """Names of stacked expert weights, which are parameters and not layers."""
    return [name for name, weight in model.named_parameters() if weight.dim() == 3]


def default_targets(model: PreTrainedModel, family: Family) -> tuple[str, ...]:
    """The family's attention matrices; for an unknown family those that carry the usual names."""
    if family.known:
        return family.lora_targets
    leaves = {name.rsplit(".", 1)[-1] for name in linear_layers(model)}
    usual = ("q_proj", "k_proj", "v_proj", "o_proj", "qkv_proj", "c_attn", "query_key_value")
    return tuple(name for name in usual if name in leaves)


def choose_targets(model: PreTrainedModel, targets: str | Sequence[str]) -> list[str]:
    """Names of the modules to adapt, in the model's order.

    Args:
        model: Whose layers are meant.
        targets: `all-linear`; suffixes of module names (`q_proj`, `mlp.down_proj`); or one regular
            expression that matches whole names.

    Raises:
        TargetError: A name matches nothing, or something that cannot be adapted; lists what can.
    """
    layers = linear_layers(model)
    if targets == ALL_LINEAR:
        if experts := expert_tensors(model):
            raise TargetError(
                f"all-linear would include experts, {experts[0]} the first of {len(experts)}",
                why="experts are stacked tensors, which adapters do not reach",
                fix=f"--lora_target_modules {','.join(_leaves(layers))}",
            )
        return list(layers)
    if is_pattern(targets):
        return _by_regex(model, targets, layers)
    suffixes = [targets] if isinstance(targets, str) else list(targets)
    found: dict[str, None] = {}
    problems = [] if suffixes else ["no name is given"]
    for suffix in suffixes:
        matches = [name for name in layers if _ends(name, suffix)]
        stacked = [
            name
            for name in expert_tensors(model)
            if _ends(name, suffix) or suffix in name.split(".")
        ]
        if stacked:
            problems.append(
                f"{suffix} includes the experts {stacked[0]}, stacked tensors that adapters do not reach"
            )
        elif not matches:
            problems.append(_why_not(model, suffix))
        found |= dict.fromkeys(matches)
    if problems:
        raise TargetError(
            f"lora_target_modules {','.join(suffixes) or '(empty)'} cannot be adapted",
            why="; ".join(problems),
            fix=f"choose from: {', '.join(_leaves(layers))}; or all-linear",
        )
    return [name for name in layers if name in found]


def saved_targets(model: PreTrainedModel, names: Sequence[str]) -> list[str]:
    """The shortest suffixes that mean exactly these modules to a reader of the file (PEFT)."""
    every = [*linear_layers(model), _head_name(model)]
    chosen = set(names)
    leaves = sorted({name.rsplit(".", 1)[-1] for name in names})
    if all((name in chosen) == any(_ends(name, leaf) for leaf in leaves) for name in every):
        return leaves
    pairs = sorted({".".join(name.split(".")[-2:]) for name in names})
    if all((name in chosen) == any(_ends(name, pair) for pair in pairs) for name in every):
        return pairs
    return sorted(names)


def _by_regex(model: PreTrainedModel, pattern: str, layers: dict[str, nn.Module]) -> list[str]:
    try:
        compiled = Pattern(pattern)
    except PatternError as error:
        raise TargetError(
            f"lora_target_modules {shown(pattern)} cannot be matched: {error}",
            why="characters, classes, groups, | * + ? and {m,n} are read, each name in linear time",
            fix=f"choose from: {', '.join(_leaves(layers))}",
        ) from error
    if compiled.fullmatch("a name that no layer has"):
        raise TargetError(
            f"lora_target_modules {pattern!r} matches anything",
            why=f"an expression chooses some of the {len(layers)} layers",
            fix=f"all-linear, or choose from: {', '.join(_leaves(layers))}",
        )
    matches = [name for name in layers if compiled.fullmatch(name)]
    if not matches:
        example = next(iter(layers), "")
        raise TargetError(
            f"lora_target_modules {pattern!r} matches none of {len(layers)} layers",
            why=f"the expression has to match a whole name, such as {example}",
            fix=f"choose from: {', '.join(_leaves(layers))}",
        )
    return matches


def _why_not(model: PreTrainedModel, suffix: str) -> str:
    others = [name for name, _ in model.named_modules() if name and _ends(name, suffix)]
    if not others:
        return f"{suffix} is the end of no module's name"
    if _ends(_head_name(model), suffix) or others[0].endswith(("embed_tokens", "wte")):
        return f"{suffix} is the head or the embedding: name it in modules_to_save, it is trained whole there"
    return f"{others[0]} is a {type(model.get_submodule(others[0])).__name__}, not a linear layer"


def _head_name(model: PreTrainedModel) -> str:
    head = model.get_output_embeddings()
    return next((name for name, module in model.named_modules() if module is head), "lm_head")


def _leaves(layers: dict[str, nn.Module]) -> list[str]:
    return list(dict.fromkeys(name.rsplit(".", 1)[-1] for name in layers))


def _ends(name: str, suffix: str) -> bool:
    return name == suffix or name.endswith("." + suffix)
