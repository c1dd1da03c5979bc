"""Which forms of computing a run uses, each with its reason: the sentences that a run prints."""

from functools import partial

import torch
from transformers import PreTrainedModel

from luthier.kernels.attention import choose
from luthier.models.quantise import QuantisedLinear


def forms(
    model: PreTrainedModel, *, device: torch.device, dtype: torch.dtype, packed: bool
) -> list[str]:
    """Of attention and of quantised weights, as this model on this device has them.

    Args:
        dtype: Of weights and activations.
        packed: Whether several sequences share a row; otherwise the model's own attention runs.
    """
    return [*_attention(model, device, dtype, packed), *_quantisation(model)]


def _attention(
    model: PreTrainedModel, device: torch.device, dtype: torch.dtype, packed: bool
) -> list[str]:
    if not packed:
        own = model.config._attn_implementation
        return [f"attention: the model's own ({own}), one sequence a row"]
    text = model.config.get_text_config()
    width = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    softcap = getattr(text, "attn_logit_softcapping", None)
    asked = partial(choose, device=device, dtype=dtype, head_width=width, softcap=softcap)
    found = [str(asked())]
    if getattr(text, "sliding_window", None):
        inside = str(asked(windowed=True))
        if inside != found[0]:
            found.append(f"{inside} of {text.sliding_window} tokens")
    return found


def _quantisation(model: PreTrainedModel) -> list[str]:
    layers = [module for module in model.modules() if isinstance(module, QuantisedLinear)]
    if not layers:
        return []
    one = layers[0]
    kind = one.quantisation.kind + (", scales quantised too" if one.quantisation.double else "")
    product = str(one.compute_dtype).removeprefix("torch.")
    return [f"quantisation: {kind}; {len(layers)} layers, given back in {product} by bitsandbytes"]
