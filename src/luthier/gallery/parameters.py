"""How many parameters a model has, tensor by tensor, from its architecture numbers alone.

Names and shapes are those of the published safetensors files.  H: hidden size.  I: width of the
feed-forward layer.  V: vocabulary.  Q, K: all query heads, all key heads, each times the head width.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from luthier.errors import ArchitectureError

Shapes = Iterator[tuple[str, tuple[int, ...]]]
Config = Mapping[str, Any]

_TIED_UNLESS_SAID = frozenset({"gemma2", "gemma3_text", "gpt2", "smollm3"})
"""Types whose config leaves `tie_word_embeddings` out where it is true, as transformers does."""

_QKV_BIASED = frozenset({"qwen2", "qwen2_moe"})
_HEAD_NORMS = {
    "qwen3": "head", "qwen3_moe": "head", "gemma3_text": "head", "olmo2": "whole",
}  # fmt: skip
_NORMS = {
    "gemma2": ("input", "post_attention", "pre_feedforward", "post_feedforward"),
    "gemma3_text": ("input", "post_attention", "pre_feedforward", "post_feedforward"),
    "olmo2": ("post_attention", "post_feedforward"),
}


def tensor_shapes(config: Config) -> dict[str, tuple[int, ...]]:
    """Every tensor of a model with its shape; a tied head is left out, as it is in the files.

    Args:
        config: The fields of a `config.json`.

    Raises:
        ArchitectureError: The layout of this `model_type` is not known here.
    """
    return dict(_tensors(config))


def count_parameters(config: Config) -> int:
    """Parameters of a model; a tied embedding is counted once.

    Raises:
        ArchitectureError: The layout of this `model_type` is not known here.
    """
    return sum(math.prod(shape) for _, shape in _tensors(config))


def count_active_parameters(config: Config) -> int:
    """Parameters that one token passes through: of the experts only those it is sent to.

    Raises:
        ArchitectureError: The layout of this `model_type` is not known here.
    """
    experts = _number(config, "num_local_experts", "num_experts")
    total = count_parameters(config)
    if not experts:
        return total
    chosen = _number(config, "num_experts_per_tok")
    in_experts = sum(math.prod(shape) for name, shape in _tensors(config) if ".experts." in name)
    return total - in_experts * (experts - chosen) // experts


def _tensors(config: Config) -> Shapes:
    kind = config.get("model_type")
    build = _BUILDERS.get(kind) if isinstance(kind, str) else None
    if build is None:
        raise ArchitectureError(
            f"the parameters of model_type {kind!r} cannot be counted from its config",
            why=f"the layout is known of: {', '.join(sorted(_BUILDERS))}",
            fix="look at the size of its safetensors files instead",
        )
    return build(config)


def _decoder(config: Config) -> Shapes:
    """The layout that Llama began: embedding, layers, a norm, a head."""
    hidden, vocabulary = config["hidden_size"], config["vocab_size"]
    yield "model.embed_tokens.weight", (vocabulary, hidden)
    for layer in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{layer}."
        for name, shape in _layer(config, layer):
            yield prefix + name, shape
    yield "model.norm.weight", (hidden,)
    if not _tied(config):
        yield "lm_head.weight", (vocabulary, hidden)


def _layer(config: Config, layer: int) -> Shapes:
    kind, hidden = config["model_type"], config["hidden_size"]
    yield from _attention(config)
    for norm in _NORMS.get(kind, ("input", "post_attention")):
        yield f"{norm}_layernorm.weight", (hidden,)
    if kind == "mixtral":
        yield from _mixtral_experts(config)
    elif kind in ("qwen2_moe", "qwen3_moe") and _is_sparse(config, layer):
        yield from _qwen_experts(config)
    elif kind == "gpt_oss":
        yield from _gpt_oss_experts(config)
    elif kind == "phi3":
        yield "mlp.gate_up_proj.weight", (2 * config["intermediate_size"], hidden)
        yield "mlp.down_proj.weight", (hidden, config["intermediate_size"])
    else:
        yield from _feed_forward(
            "mlp.", hidden, config["intermediate_size"], _has(config, "mlp_bias")
        )


def _attention(config: Config) -> Shapes:
    kind, hidden, heads = config["model_type"], config["hidden_size"], config["num_attention_heads"]
    width = config.get("head_dim") or hidden // heads
    query = heads * width
    key = (config.get("num_key_value_heads") or heads) * width
    if kind == "phi3":
        yield "self_attn.qkv_proj.weight", (query + 2 * key, hidden)
        yield "self_attn.o_proj.weight", (hidden, query)
        return
    biased = _has(config, "attention_bias")
    for name, rows in (("q", query), ("k", key), ("v", key)):
        yield f"self_attn.{name}_proj.weight", (rows, hidden)
        if biased or kind in _QKV_BIASED:
            yield f"self_attn.{name}_proj.bias", (rows,)
    yield "self_attn.o_proj.weight", (hidden, query)
    if biased:
        yield "self_attn.o_proj.bias", (hidden,)
    if norm := _HEAD_NORMS.get(kind):
        yield "self_attn.q_norm.weight", (width if norm == "head" else query,)
        yield "self_attn.k_norm.weight", (width if norm == "head" else key,)
    if kind == "gpt_oss":
        yield "self_attn.sinks", (heads,)


def _feed_forward(prefix: str, hidden: int, inner: int, biased: bool = False) -> Shapes:
    for name, shape in (
        ("gate", (inner, hidden)),
        ("up", (inner, hidden)),
        ("down", (hidden, inner)),
    ):
        yield f"{prefix}{name}_proj.weight", shape
        if biased:
            yield f"{prefix}{name}_proj.bias", shape[:1]


def _mixtral_experts(config: Config) -> Shapes:
    hidden, inner, experts = (
        config["hidden_size"], config["intermediate_size"], config["num_local_experts"],
    )  # fmt: skip
    yield "block_sparse_moe.gate.weight", (experts, hidden)
    for expert in range(experts):
        prefix = f"block_sparse_moe.experts.{expert}."
        yield f"{prefix}w1.weight", (inner, hidden)
        yield f"{prefix}w2.weight", (hidden, inner)
        yield f"{prefix}w3.weight", (inner, hidden)


def _is_sparse(config: Config, layer: int) -> bool:
    if layer in (config.get("mlp_only_layers") or ()):
        return False
    return (layer + 1) % (config.get("decoder_sparse_step") or 1) == 0


def _qwen_experts(config: Config) -> Shapes:
    hidden, experts = config["hidden_size"], config["num_experts"]
    yield "mlp.gate.weight", (experts, hidden)
    for expert in range(experts):
        yield from _feed_forward(f"mlp.experts.{expert}.", hidden, config["moe_intermediate_size"])
    if shared := config.get("shared_expert_intermediate_size"):
        yield from _feed_forward("mlp.shared_expert.", hidden, shared)
        yield "mlp.shared_expert_gate.weight", (1, hidden)


def _gpt_oss_experts(config: Config) -> Shapes:
    """As they are before the publisher's 4-bit packing."""
    hidden, inner, experts = (
        config["hidden_size"], config["intermediate_size"], config["num_local_experts"],
    )  # fmt: skip
    yield "mlp.router.weight", (experts, hidden)
    yield "mlp.router.bias", (experts,)
    yield "mlp.experts.gate_up_proj", (experts, hidden, 2 * inner)
    yield "mlp.experts.gate_up_proj_bias", (experts, 2 * inner)
    yield "mlp.experts.down_proj", (experts, inner, hidden)
    yield "mlp.experts.down_proj_bias", (experts, hidden)


def _gpt2(config: Config) -> Shapes:
    hidden = config["n_embd"]
    inner = config.get("n_inner") or 4 * hidden
    yield "wte.weight", (config["vocab_size"], hidden)
    yield "wpe.weight", (config["n_positions"], hidden)
    parts = {
        "ln_1": (hidden,), "attn.c_attn": (hidden, 3 * hidden), "attn.c_proj": (hidden, hidden),
        "ln_2": (hidden,), "mlp.c_fc": (hidden, inner), "mlp.c_proj": (inner, hidden),
    }  # fmt: skip
    for layer in range(config["n_layer"]):
        for name, shape in parts.items():
            yield f"h.{layer}.{name}.weight", shape
            yield f"h.{layer}.{name}.bias", shape[-1:]
    yield "ln_f.weight", (hidden,)
    yield "ln_f.bias", (hidden,)


def _tied(config: Config) -> bool:
    said = config.get("tie_word_embeddings")
    return config["model_type"] in _TIED_UNLESS_SAID if said is None else bool(said)


def _has(config: Config, name: str) -> bool:
    return bool(config.get(name))


def _number(config: Config, *names: str) -> int:
    return next((int(config[name]) for name in names if config.get(name)), 0)


_BUILDERS: dict[str, Callable[[Config], Shapes]] = {
    **dict.fromkeys(
        (
            "gemma2", "gemma3_text", "gpt_oss", "granite", "llama", "mistral", "mixtral", "olmo2", "phi3",
            "qwen2", "qwen2_moe", "qwen3", "qwen3_moe", "smollm3",
        ),
        _decoder,
    ),
    "gpt2": _gpt2,
}  # fmt: skip
