"""Adapters on disk, in PEFT's format: `adapter_config.json` and `adapter_model.safetensors`.

Source: https://github.com/huggingface/peft, docs/source/developer_guides/checkpoint.md (0.21).
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from luthier.bounded_patterns import Suffix
from luthier.errors import AdapterError, NonFiniteError
from luthier.kernels.finite import is_finite
from luthier.models.adapters import PREFIX, Adapters
from luthier.models.lora_layer import LoraShared
from luthier.models.quantise import QuantisedLinear
from luthier.models.targets import linear_layers, saved_targets
from luthier.sources.adapter_config import (
    CONFIG,
    WEIGHTS,
    check_weights_there,
    read_adapter_config,
    refused,
)
from luthier.sources.weights import TensorSpec, check_hashes, read_header

MAGNITUDE = "lora_magnitude_vector"


def save_adapter(adapters: Adapters, folder: Path, base_name: str) -> None:
    """Write an adapter into a folder that exists.

    Args:
        adapters: Not merged.
        folder: Gets two files; a `DurableFolder`'s own path, so that they appear whole.
        base_name: What the base is called: a gallery name, a hub id, or a folder.

    Raises:
        NonFiniteError: A weight is NaN or infinite; nothing is written.
    """
    if adapters.is_merged:
        raise AdapterError(
            "this adapter has been merged into its base",
            why="there is nothing left to save on its own",
            fix="save the model, or load base and adapter again",
        )
    state = {name: value.float().cpu().contiguous() for name, value in _published(adapters).items()}
    if bad := [name for name, value in state.items() if not is_finite(value)]:
        raise NonFiniteError(
            f"{len(bad)} weights of the adapter are not numbers, first {bad[0]}",
            why="such an adapter is of no use; it was not saved",
            fix="resume from the last checkpoint with a lower learning rate",
        )
    text = json.dumps(adapter_config(adapters, base_name), indent=2, sort_keys=True)
    (folder / CONFIG).write_text(text + "\n", encoding="utf-8")
    save_file(state, folder / WEIGHTS, metadata={"format": "pt"})


def _published(adapters: Adapters) -> dict[str, torch.Tensor]:
    """The weights as an adapter of the base as it is published.

    A base that lost its principal directions to the adapter is not published: what was taken out
    is subtracted, by an adapter of twice the rank (https://arxiv.org/abs/2404.02948, appendix C).
    """
    state = adapters.state()
    for name, layer in adapters.layers.items():
        if layer.taken is None:
            continue
        key_A, key_B = (f"{PREFIX}{name}.lora_{side}.weight" for side in "AB")
        first_A, first_B = layer.taken
        state[key_A] = torch.cat([state[key_A], first_A])
        state[key_B] = torch.cat([state[key_B], -first_B], dim=1)
    return state


def adapter_config(adapters: Adapters, base_name: str) -> dict[str, Any]:
    """The content of `adapter_config.json`."""
    ranks = {n: layer.rank for n, layer in adapters.layers.items() if layer.rank != adapters.rank}
    alphas = {
        n: layer.alpha for n, layer in adapters.layers.items() if layer.alpha != adapters.alpha
    }
    bases = [layer.base for layer in adapters.layers.values()]
    # Of twice the rank; the scale stays: alpha over the rank, or over its root.
    twice = 2 if adapters.shared.principal else 1
    wider = math.sqrt(twice) if adapters.shared.rank_stabilised else twice
    turned = any(
        isinstance(b, Conv1D) or (isinstance(b, QuantisedLinear) and b.conv1d) for b in bases
    )
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base_name,
        "revision": None,
        "inference_mode": True,
        "r": twice * adapters.rank,
        "lora_alpha": _whole(wider * adapters.alpha),
        "lora_dropout": adapters.shared.dropout,
        "target_modules": adapters.targets,
        "exclude_modules": None,
        "modules_to_save": [n.rsplit(".", 1)[-1] for n in adapters.modules] or None,
        "rank_pattern": {re.escape(name): rank for name, rank in ranks.items()},
        "alpha_pattern": {re.escape(name): _whole(alpha) for name, alpha in alphas.items()},
        "use_rslora": adapters.shared.rank_stabilised,
        "use_dora": adapters.shared.dora,
        "bias": "none",
        "lora_bias": False,
        "fan_in_fan_out": turned,
        "init_lora_weights": True,
        "layers_to_transform": None,
        "layers_pattern": None,
        "auto_mapping": None,
    }


def load_adapter(model: PreTrainedModel, folder: Path, *, dropout: float | None = None) -> Adapters:
    """Put a saved adapter on a base; its weights stay trainable, so that training can go on.

    Args:
        model: From `load_base`, without an adapter.
        folder: Holds the two files.
        dropout: Of further training; None takes what the file says.

    Raises:
        AdapterError: It is incomplete, of a kind that is not applied, or of another base.
        DamagedWeightsError: The file is not well-formed safetensors.
        UnsafeWeightsError: The weights are pickled.
    """
    config = read_adapter_config(folder)
    path = check_weights_there(folder)
    specs = read_header(path)
    check_hashes([path], folder)
    pairs, whole = _sort_tensors(folder, specs, config)
    plans = _plan_layers(model, folder, specs, pairs, config)
    modules = _plan_modules(model, folder, specs, whole)
    shared = LoraShared(
        dropout=float(config.get("lora_dropout") or 0.0) if dropout is None else dropout,
        rank_stabilised=bool(config.get("use_rslora")),
        dora=bool(config.get("use_dora")),
    )
    adapters = Adapters(
        model,
        rank=config["r"],
        alpha=config["lora_alpha"],
        shared=shared,
        targets=config.get("target_modules") or saved_targets(model, [plan.name for plan in plans]),
    )
    model.requires_grad_(False)
    for plan in plans:
        adapters.put_layer(plan.name, rank=plan.rank, alpha=plan.alpha)
    for name in modules:
        adapters.put_module(name)
    state = load_file(path)
    if other := _other_of_pair(model, modules, config):
        adapters.put_module(other)
        state[f"{PREFIX}{other}.weight"] = state[f"{PREFIX}{modules[0]}.weight"]
    if bad := [name for name, value in state.items() if not is_finite(value)]:
        raise refused(folder, f"{len(bad)} tensors hold NaN or infinity, first {bad[0]}")
    adapters.load_state(state)
    return adapters


@dataclass(frozen=True, slots=True)
class _Layer:
    name: str
    rank: int
    alpha: float


def _sort_tensors(
    folder: Path, specs: Mapping[str, TensorSpec], config: Mapping[str, Any]
) -> tuple[dict[str, set[str]], dict[str, list[str]]]:
    """Layer -> which of A and B are there; module trained whole -> its tensors."""
    if not specs:
        raise refused(folder, f"{WEIGHTS} has no tensors")
    saved = config.get("modules_to_save") or ()
    tied = bool(saved) and bool(config.get("ensure_weight_tying"))
    pairs: dict[str, set[str]] = {}
    whole: dict[str, list[str]] = {}
    magnitudes: set[str] = set()
    problems = []
    for key in specs:
        name = key.removeprefix(PREFIX)
        if match := re.fullmatch(r"(.+)\.lora_([AB])\.weight", name):
            pairs.setdefault(match[1], set()).add(match[2])
            continue
        if config.get("use_dora") and name.endswith(f".{MAGNITUDE}"):
            magnitudes.add(name.removesuffix(f".{MAGNITUDE}"))
            continue
        module, _, leaf = name.rpartition(".")
        # With `ensure_weight_tying` PEFT saves the other matrix of the pair without declaring it.
        declared = tied or any(module == s or module.endswith("." + s) for s in saved)
        if "lora_embedding_" in leaf:
            problems.append(f"it adapts the embedding {module}; luthier adapts linear layers")
        elif name == key or not declared or leaf not in {"weight", "bias"}:
            problems.append(
                f"tensor {key} is neither A nor B of a layer, nor declared in modules_to_save"
            )
        else:
            whole.setdefault(module, []).append(leaf)
    problems += [
        f"{n} has no lora_{'A' if have == {'B'} else 'B'}"
        for n, have in pairs.items()
        if len(have) < 2
    ]
    if config.get("use_dora"):
        problems += [
            f"{name} has A and B or a {MAGNITUDE}, not all three"
            for name in magnitudes ^ set(pairs)
        ]
    if problems:
        raise refused(folder, "; ".join(problems[:5]))
    if not pairs and not whole:
        raise refused(folder, f"{WEIGHTS} has no adapter in it")
    return pairs, whole


def _plan_layers(
    model: PreTrainedModel,
    folder: Path,
    specs: Mapping[str, TensorSpec],
    pairs: Mapping[str, set[str]],
    config: Mapping[str, Any],
) -> list[_Layer]:
    layers = linear_layers(model)
    plans, problems = [], []
    ranks, alphas = _patterns(config.get("rank_pattern")), _patterns(config.get("alpha_pattern"))
    for name in pairs:
        base = layers.get(name)
        if base is None:
            problems.append(f"it adapts {name}, which is no linear layer of {type(model).__name__}")
            continue
        a, b = (specs[f"{PREFIX}{name}.lora_{side}.weight"].shape for side in "AB")
        rank = _pattern(ranks, name, config["r"])
        alpha = _pattern(alphas, name, config["lora_alpha"])
        outputs, inputs = _shape(base)
        if (a, b) != ((rank, inputs), (outputs, rank)):
            problems.append(
                f"{name}: the adapter is of rank {a[0]} for {b[0]} x {a[-1]}, "
                f"its config says rank {rank} and the base has {outputs} x {inputs}"
            )
        if config.get("use_dora") and specs[f"{PREFIX}{name}.{MAGNITUDE}"].shape != (outputs,):
            problems.append(f"{name}: its {MAGNITUDE} is not of {outputs} rows")
        plans.append(_Layer(name, rank, alpha))
    if problems:
        raise AdapterError(
            f"the adapter {folder} does not fit this base ({model.config.model_type})",
            why="; ".join(problems[:4])
            + (f"; and {len(problems) - 4} more" if problems[4:] else ""),
            fix="use the base the adapter was trained on: base_model_name_or_path in its adapter_config.json",
        )
    return plans


def _plan_modules(
    model: PreTrainedModel,
    folder: Path,
    specs: Mapping[str, TensorSpec],
    whole: Mapping[str, list[str]],
) -> list[str]:
    owned = {id(m) for m in (model.get_input_embeddings(), model.get_output_embeddings())}
    known = {name: module for name, module in model.named_modules() if id(module) in owned}
    for name, leaves in whole.items():
        mine = {} if name not in known else dict(known[name].named_parameters())
        theirs = {leaf: specs[f"{PREFIX}{name}.{leaf}"].shape for leaf in leaves}
        if theirs != {leaf: tuple(value.shape) for leaf, value in mine.items()}:
            raise refused(
                folder,
                f"{name} was trained whole as {theirs}, the base has "
                f"{ {leaf: tuple(value.shape) for leaf, value in mine.items()} or 'no such embedding or head' }",
            )
    return list(whole)


def _other_of_pair(
    model: PreTrainedModel, modules: list[str], config: Mapping[str, Any]
) -> str | None:
    """The head or embedding that an adapter means to change too, where it holds one of a tied pair."""
    if not config.get("ensure_weight_tying") or len(modules) != 1:
        return None
    pairs = model.get_expanded_tied_weights_keys(all_submodels=True).items()
    names = {name.removesuffix(".weight") for pair in pairs for name in pair}
    return next(iter(names - {modules[0]}), None) if modules[0] in names else None


def _shape(base: torch.nn.Module) -> tuple[int, int]:
    if isinstance(base, QuantisedLinear):
        return base.out_features, base.in_features
    rows, columns = base.weight.shape  # type: ignore[misc]
    return (columns, rows) if isinstance(base, Conv1D) else (rows, columns)


def _patterns(entries: Mapping[str, Any] | None) -> list[tuple[Suffix, Any]]:
    return [(Suffix(key), value) for key, value in (entries or {}).items()]


def _pattern(patterns: Sequence[tuple[Suffix, Any]], name: str, default: Any) -> Any:
    """The value for a module: of the first key that means it, as PEFT takes them."""
    return next((value for suffix, value in patterns if suffix.matches(name)), default)


def _whole(number: float) -> int | float:
    """16 rather than 16.0: some readers of the file want an integer."""
    return int(number) if float(number).is_integer() else number
