"""What a GGUF file says of an architecture, and how its tensors differ from those of safetensors.

llama.cpp rotates pairs of neighbours in the family it calls `llama`, transformers pairs of halves:
the rows of q and k are put in its order.  Gemma's norms multiply by 1 + w there, by w here.

Source: https://github.com/ggml-org/llama.cpp, conversion scripts and src/llama-arch.cpp.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from luthier.errors import ArchitectureError

Array = NDArray[Any]
Value = str | int | float | bool


@dataclass(frozen=True)
class Architecture:
    """One of llama.cpp's.

    Args:
        name: As llama.cpp writes it.
        permute: Whether rows of q and k change order.
        norm_offset: Added to the weight of every norm.
    """

    name: str
    permute: bool = False
    norm_offset: float = 0.0


ARCHITECTURES = {
    "llama": Architecture("llama", permute=True),
    "mistral": Architecture("llama", permute=True),
    "qwen2": Architecture("qwen2"),
    "qwen3": Architecture("qwen3"),
    "gemma2": Architecture("gemma2", norm_offset=1.0),
    "gemma3_text": Architecture("gemma3", norm_offset=1.0),
    "phi3": Architecture("phi3"),
}
"""By `model_type`; the others are refused by name."""


_FULL_EVERY = {"gemma2": 2, "gemma3_text": 6}
"""In llama.cpp every n-th layer of these sees everything, the others a window."""


def architecture_of(config: Mapping[str, Any]) -> Architecture:
    """llama.cpp's architecture of a config.

    Raises:
        ArchitectureError: There is none here for this model type.
    """
    kind = config.get("model_type")
    if kind not in ARCHITECTURES:
        raise ArchitectureError(
            f"model_type {kind} cannot be written as GGUF here",
            why="proven against llama.cpp are: " + ", ".join(sorted(ARCHITECTURES)),
            fix="luthier export RUN --to merged --output FOLDER; llama.cpp's own "
            "convert_hf_to_gguf.py may know it",
        )
    return ARCHITECTURES[kind]


def head_width(config: Mapping[str, Any]) -> int:
    """Width of one attention head."""
    return int(config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"])


def context_of(config: Mapping[str, Any]) -> int:
    """Positions that llama.cpp may use.

    It has no windows for Mistral and Phi-3 and would see further back than the model ever did, so
    there the context ends with the window: up to it nothing differs.
    """
    positions = int(config["max_position_embeddings"])
    window = config.get("sliding_window") if config.get("use_sliding_window", True) else None
    if not window or config["model_type"] in ("llama", *_FULL_EVERY):
        return positions
    return min(positions, int(window))


def numbers_of(config: Mapping[str, Any]) -> dict[str, Value]:
    """Keys of the architecture, without its name before them.

    Raises:
        ArchitectureError: A rotary scaling that is not known here.
    """
    heads, width = config["num_attention_heads"], head_width(config)
    found: dict[str, Value] = {
        "vocab_size": config["vocab_size"],
        "context_length": context_of(config),
        "embedding_length": config["hidden_size"],
        "block_count": config["num_hidden_layers"],
        "feed_forward_length": config["intermediate_size"],
        "attention.head_count": heads,
        "attention.head_count_kv": config.get("num_key_value_heads") or heads,
        "attention.key_length": width,
        "attention.value_length": width,
        "attention.layer_norm_rms_epsilon": float(config["rms_norm_eps"]),
        "rope.dimension_count": int(width * float(config.get("partial_rotary_factor") or 1.0)),
        "rope.freq_base": float(rope_of(config)["rope_theta"]),
    }
    if config.get("sliding_window") and config["model_type"] in _FULL_EVERY:
        found["attention.sliding_window"] = int(config["sliding_window"])
    for name in ("attn_logit_softcapping", "final_logit_softcapping"):
        if config.get(name):
            found[name] = float(config[name])
    _check_windows(config)
    return {**found, **_scaling(config)}


def _check_windows(config: Mapping[str, Any]) -> None:
    every = _FULL_EVERY.get(config["model_type"])
    layers = config.get("layer_types")
    if every is None or not layers:
        return
    usual = [
        "sliding_attention" if (n + 1) % every else "full_attention" for n in range(len(layers))
    ]
    if list(layers) != usual:
        raise ArchitectureError(
            f"layer_types of this {config['model_type']} are not what llama.cpp takes them for",
            why=f"there every {every}th layer has full attention, whatever the file says",
            fix="luthier export RUN --to merged --output FOLDER",
        )


def rope_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """`rope_parameters` of a config, whichever way it is written; full attention where layers differ."""
    given = config.get("rope_parameters") or config.get("rope_scaling") or {}
    full = given.get("full_attention", given)
    theta = full.get("rope_theta", config.get("rope_theta", 10000.0))
    kind = full.get("rope_type", full.get("type", "default"))
    return {**full, "rope_theta": theta, "rope_type": kind}


def _scaling(config: Mapping[str, Any]) -> dict[str, Value]:
    rope = rope_of(config)
    if rope["rope_type"] in ("default", "llama3"):
        return {}
    if rope["rope_type"] == "linear":
        return {"rope.scaling.type": "linear", "rope.scaling.factor": float(rope["factor"])}
    raise ArchitectureError(
        f"rope_type {rope['rope_type']} cannot be written as GGUF here",
        why="default, linear and llama3 are proven against llama.cpp",
        fix="luthier export RUN --to merged --output FOLDER",
    )


def rope_factors(config: Mapping[str, Any]) -> Array | None:
    """`rope_freqs.weight` of Llama 3's scaling: what each frequency is divided by; else None.

    Source: https://arxiv.org/abs/2407.21783 and transformers modeling_rope_utils.py (llama3).
    """
    rope = rope_of(config)
    if rope["rope_type"] != "llama3":
        return None
    width = head_width(config)
    frequency = 1.0 / rope["rope_theta"] ** (np.arange(0, width, 2, dtype=np.float64) / width)
    length = 2 * math.pi / frequency
    low, high = float(rope["low_freq_factor"]), float(rope["high_freq_factor"])
    old, factor = float(rope["original_max_position_embeddings"]), float(rope["factor"])
    smooth = (old / length - low) / (high - low)
    between = 1.0 / ((1 - smooth) / factor + smooth)
    factors = np.where(length < old / high, 1.0, np.where(length > old / low, factor, between))
    return factors.astype(np.float32)


def arranged(name: str, value: Array, config: Mapping[str, Any]) -> Array:
    """A tensor of safetensors as llama.cpp wants it."""
    form = architecture_of(config)
    if form.norm_offset and name.endswith("norm.weight"):
        return value + form.norm_offset
    part: Literal["q", "k"] | None = None
    if form.permute and ".self_attn.q_proj." in name:
        part = "q"
    elif form.permute and ".self_attn.k_proj." in name:
        part = "k"
    if part is None:
        return value
    heads = config["num_attention_heads"]
    if part == "k":
        heads = config.get("num_key_value_heads") or heads
    pairs = value.reshape(heads, 2, value.shape[0] // heads // 2, *value.shape[1:])
    return pairs.swapaxes(1, 2).reshape(value.shape)
