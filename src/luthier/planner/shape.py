"""The numbers of a decoder that memory and time depend on, read from its `config.json`.

d: hidden size.  q, kv: width of all query heads, of all key heads.  f: width of the feed-forward
block.  V: vocabulary.  Matrices are named as transformers names their modules, since adapters are
asked for by the ends of those names.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

from luthier.gallery import context_length

JOINED = {"phi3"}
PLAIN_MLP = {"gpt2", "gpt_neox", "phi", "starcoder2"}
HEAD_NORMS = {"qwen3", "qwen3_moe", "gemma3_text", "gemma3"}
WIDE_NORMS = {"olmo2", "olmo3"}
FOUR_NORMS = {"gemma2", "gemma3_text", "gemma3"}
TIED = {"gemma", "gemma2", "gemma3", "gemma3_text", "gpt2"}
QKV_BIAS = {"qwen2", "qwen2_moe", "gpt2"}
UNFUSED = {"gpt2", "gpt_neox", "gpt_oss", "starcoder2", "phi"}
"""Types whose norms are not those of `models.fuse`."""

BLOCK = 64  # values that share a scale in 4 bits
SCALE_BLOCK = 256


class Matrix(NamedTuple):
    """A linear layer: name, outputs, inputs, and whether it has a bias."""

    name: str
    outputs: int
    inputs: int
    bias: bool = False

    @property
    def size(self) -> int:
        """Weights without the bias."""
        return self.outputs * self.inputs


@dataclass(frozen=True, slots=True)
class Shape:
    """The numbers of a decoder.

    Args:
        linears: The linear layers of one block, which adapters and quantisation reach.
        experts: Stacked expert weights of one block, in values: neither reaches them.
        router: Weights that choose experts, in one block.
        norm_weights: Of one block.
        expert_width: f of one expert; 0 without experts.
        active: Experts that a token is sent to.
        dense_layers: Blocks; those with experts are `layers - plain_layers`.
    """

    model_type: str
    hidden: int
    layers: int
    intermediate: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    tied: bool
    linears: tuple[Matrix, ...]
    norm_weights: int
    experts: int = 0
    router: int = 0
    num_experts: int = 0
    expert_width: int = 0
    active: int = 0
    positions: int = 0
    context: int = 0
    window: int | None = None
    softcap: bool = False
    capped_head: bool = False

    @property
    def q(self) -> int:
        """Width of all query heads."""
        return self.heads * self.head_dim

    @property
    def kv(self) -> int:
        """Width of all key heads."""
        return self.kv_heads * self.head_dim

    @property
    def joined(self) -> bool:
        """Whether query, key and value come from one matrix, and gate and up from another."""
        return self.model_type in JOINED

    @property
    def gated(self) -> bool:
        """Whether the feed-forward block multiplies two products."""
        return self.model_type not in PLAIN_MLP

    @property
    def fused(self) -> bool:
        """Whether `models.fuse` replaces its norms."""
        return self.model_type not in UNFUSED

    @property
    def linear_weights(self) -> int:
        """Values of all linear layers, biases left out."""
        return self.layers * sum(matrix.size for matrix in self.linears)

    @property
    def num_params(self) -> int:
        """Parameters of the model; a tied embedding counts once."""
        biases = sum(matrix.outputs for matrix in self.linears if matrix.bias)
        block = sum(matrix.size for matrix in self.linears) + biases + self.norm_weights
        block += self.experts + self.router
        embeddings = self.vocabulary * self.hidden * (1 if self.tied else 2)
        last = self.hidden * (2 if self.model_type in PLAIN_MLP else 1)
        return self.layers * block + embeddings + self.positions * self.hidden + last

    @property
    def active_params(self) -> int:
        """Parameters that one token meets in the blocks: experts it is not sent to left out."""
        return self.linear_weights + self.layers * (
            self.router + 3 * self.active * self.hidden * self.expert_width
        )

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """From a `config.json`; GPT-2's older names are understood.

        The vision part of a model that has one is left out, as luthier does.
        """
        outer, config = config, config.get("text_config", config)
        kind = str(config.get("model_type", outer.get("model_type", "")))

        def first(*names: str) -> int:
            return next((int(config[name]) for name in names if config.get(name)), 0)

        hidden = first("hidden_size", "n_embd")
        heads = max(1, first("num_attention_heads", "n_head"))
        numbers = _Numbers(
            kind,
            hidden,
            first("intermediate_size", "n_inner") or 4 * hidden,
            heads,
            first("num_key_value_heads") or heads,
            first("head_dim") or hidden // heads,
            bool(config.get("attention_bias")) or kind in QKV_BIAS,
            (bool(config.get("attention_bias")) and kind not in QKV_BIAS) or kind == "gpt2",
            bool(config.get("mlp_bias")) or kind in PLAIN_MLP,
        )
        experts = first("num_experts", "num_local_experts", "n_routed_experts")
        width = first("moe_intermediate_size") or (numbers.intermediate if experts else 0)
        tied = config.get("tie_word_embeddings", outer.get("tie_word_embeddings"))
        return cls(
            model_type=kind,
            hidden=hidden,
            layers=first("num_hidden_layers", "n_layer"),
            intermediate=numbers.intermediate,
            heads=heads,
            kv_heads=numbers.kv_heads,
            head_dim=numbers.head_dim,
            vocabulary=first("vocab_size"),
            tied=(kind in TIED) if tied is None else bool(tied),
            linears=tuple(_linears(numbers, experts=bool(experts))),
            norm_weights=_norm_weights(numbers),
            experts=experts * _expert_size(numbers, width),
            router=experts * (hidden + (1 if kind == "gpt_oss" else 0)),
            num_experts=experts,
            expert_width=width,
            active=first("num_experts_per_tok") if experts else 0,
            positions=first("n_positions") if kind == "gpt2" else 0,
            context=context_length(outer) or 0,
            window=_window(config),
            softcap=bool(config.get("attn_logit_softcapping")),
            capped_head=bool(config.get("final_logit_softcapping")),
        )


class _Numbers(NamedTuple):
    kind: str
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_dim: int
    qkv_bias: bool
    o_bias: bool
    mlp_bias: bool


def _linears(n: _Numbers, *, experts: bool) -> Iterator[Matrix]:
    q, kv = n.heads * n.head_dim, n.kv_heads * n.head_dim
    if n.kind == "gpt2":
        yield Matrix("attn.c_attn", 3 * n.hidden, n.hidden, True)
        yield Matrix("attn.c_proj", n.hidden, n.hidden, True)
        yield Matrix("mlp.c_fc", n.intermediate, n.hidden, True)
        yield Matrix("mlp.c_proj", n.hidden, n.intermediate, True)
        return
    if n.kind in JOINED:
        yield Matrix("self_attn.qkv_proj", q + 2 * kv, n.hidden, n.qkv_bias)
    else:
        yield Matrix("self_attn.q_proj", q, n.hidden, n.qkv_bias)
        yield Matrix("self_attn.k_proj", kv, n.hidden, n.qkv_bias)
        yield Matrix("self_attn.v_proj", kv, n.hidden, n.qkv_bias)
    yield Matrix("self_attn.o_proj", n.hidden, q, n.o_bias)
    if experts:
        return
    if n.kind in JOINED:
        yield Matrix("mlp.gate_up_proj", 2 * n.intermediate, n.hidden, n.mlp_bias)
    else:
        yield Matrix("mlp.gate_proj", n.intermediate, n.hidden, n.mlp_bias)
        yield Matrix("mlp.up_proj", n.intermediate, n.hidden, n.mlp_bias)
    yield Matrix("mlp.down_proj", n.hidden, n.intermediate, n.mlp_bias)


def _norm_weights(n: _Numbers) -> int:
    if n.kind == "gpt2":
        return 4 * n.hidden  # weight and bias of two
    count = n.hidden * (4 if n.kind in FOUR_NORMS else 2)
    if n.kind in HEAD_NORMS:
        count += 2 * n.head_dim
    if n.kind in WIDE_NORMS:
        count += (n.heads + n.kv_heads) * n.head_dim
    if n.kind == "gpt_oss":
        count += n.heads  # attention sinks
    return count


def _expert_size(n: _Numbers, width: int) -> int:
    size = 3 * n.hidden * width
    return size + 2 * width + n.hidden if n.kind == "gpt_oss" else size


def _window(config: Mapping[str, Any]) -> int | None:
    value = config.get("sliding_window")
    used = config.get("use_sliding_window", True)
    return int(value) if used and isinstance(value, int) else None


def quantised_bytes(matrix: Matrix, bits: int, *, double: bool = False) -> tuple[int, int]:
    """Bytes of the codes and of the scales of one matrix in 4 or 8 bits (`models.quantise`)."""
    if bits == 8:
        return matrix.size, 4 * matrix.outputs
    blocks = -(-matrix.size // BLOCK)
    codes = -(-matrix.size // 2)
    if not double:
        return codes, 4 * blocks
    return codes, blocks + 4 * -(-blocks // SCALE_BLOCK) + 256 * 4 + 4
