"""How many tokens fit at once, and whether activations are computed twice.

Closed forms from the architecture numbers; no torch.  The bytes that a layer keeps for its backward
count the inputs of transformers' eager layers, an estimate from above: running out of memory all the
same only makes the cut finer.  Memory is taken from the device's *total*, so that a number chosen
once does not depend on what else happens to run.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from luthier.units import GIB, format_bytes

USABLE = 0.85
"""Share of a device's memory that is planned with; the rest is for the runtime and fragmentation."""

BEST_CPU_TOKENS = 2048
"""Beyond this a larger micro-batch makes a CPU no faster: its matrix products are already large."""

BEST_GPU_TOKENS = 16384


@dataclass(frozen=True, slots=True)
class Shape:
    """The numbers of a decoder that memory depends on."""

    hidden: int
    layers: int
    intermediate: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """From a `config.json`; GPT-2's older names are understood."""
        config = config.get("text_config", config)

        def first(*names: str) -> int:
            return next((int(config[name]) for name in names if config.get(name)), 0)

        hidden = first("hidden_size", "n_embd")
        heads = max(1, first("num_attention_heads", "n_head"))
        return cls(
            hidden=hidden,
            layers=first("num_hidden_layers", "n_layer"),
            intermediate=first("intermediate_size", "n_inner") or 4 * hidden,
            heads=heads,
            kv_heads=first("num_key_value_heads") or heads,
            head_dim=first("head_dim") or hidden // heads,
            vocabulary=first("vocab_size"),
        )

    def activation_bytes(self, element_bytes: int, *, recompute: bool) -> int:
        """Bytes per token kept from forward to backward by the whole model.

        A layer keeps the inputs of its products and of its pointwise steps; with recomputation only
        its own input, plus everything of the one layer that is being recomputed.
        """
        q, kv = self.heads * self.head_dim, self.kv_heads * self.head_dim
        layer = (6 * self.hidden + 3 * q + 3 * kv + 4 * self.intermediate) * element_bytes
        layer += 8 * self.heads + 16
        if not recompute:
            return layer * self.layers
        return self.hidden * element_bytes * self.layers + layer


@dataclass(frozen=True, slots=True)
class Choice:
    """A value that was chosen, and the reason in a sentence with its numbers."""

    value: int
    reason: str


def free_for_activations(total_bytes: int, static_bytes: int) -> int:
    """Bytes left for activations on a device of `total_bytes`; may be negative."""
    return int(total_bytes * USABLE) - static_bytes - GIB // 2


def recomputation(
    shape: Shape, *, free_bytes: int, element_bytes: int, longest_sample: int
) -> tuple[bool, str]:
    """Whether activations have to be computed twice for the longest sample to fit."""
    needed = shape.activation_bytes(element_bytes, recompute=False) * longest_sample
    if needed <= free_bytes:
        return (
            False,
            f"the longest sample ({longest_sample} tokens) keeps {format_bytes(needed)}, which fits",
        )
    return True, (
        f"the longest sample ({longest_sample} tokens) would keep {format_bytes(needed)}, "
        f"{format_bytes(max(0, free_bytes))} is free"
    )


def micro_batch_tokens(
    shape: Shape,
    *,
    free_bytes: int,
    element_bytes: int,
    recompute: bool,
    longest_sample: int,
    cuda: bool,
) -> Choice:
    """Most tokens computed at once, in steps of 256; never less than the longest sample needs."""
    per_token = shape.activation_bytes(element_bytes, recompute=recompute)
    best = BEST_GPU_TOKENS if cuda else BEST_CPU_TOKENS
    fits = max(0, free_bytes) // max(1, per_token) // 256 * 256
    chosen = max(min(fits, best), longest_sample, 8)
    why = "more tokens at once are not faster" if fits >= best else "what memory allows"
    return Choice(
        chosen, f"{per_token:,} bytes per token, {format_bytes(max(0, free_bytes))} free: {why}"
    )
