"""Tiny random models of the real classes, and their folders: what every test of a whole model uses.

A folder made here has what a folder from the hub has: config, generation config, safetensors and
a byte-level tokenizer with a ChatML-like template.  Same arguments, same bytes.
"""

import json
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
NUM_TOKENS = 256 + len(SPECIAL)  # 259; models have a padded vocabulary, as published ones do
VOCAB = 264
EOS, IM_START, IM_END = 256, 257, 258

TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)

_SHAPE: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "attention_dropout": 0.1,  # must become 0 on loading
}

_FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", _SHAPE),
    "qwen2": ("qwen2", _SHAPE),
    "qwen3": ("qwen3", {**_SHAPE, "head_dim": 16}),
    "mistral": ("mistral", {**_SHAPE, "sliding_window": 6}),
    "gemma2": (
        "gemma2",
        {
            **_SHAPE,
            "head_dim": 8,
            "sliding_window": 6,
            "query_pre_attn_scalar": 8,
            "attn_logit_softcapping": 5.0,
            "final_logit_softcapping": 3.0,
        },
    ),
    "gemma3": (
        "gemma3_text",
        {
            **_SHAPE,
            "head_dim": 8,
            "sliding_window": 6,
            "query_pre_attn_scalar": 8,
            "layer_types": ["sliding_attention", "full_attention"],
        },
    ),
    "phi3": (
        "phi3",
        {**_SHAPE, "sliding_window": 6, "embd_pdrop": 0.1, "resid_pdrop": 0.1, "pad_token_id": EOS},
    ),
    "gpt2": (
        "gpt2",
        {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 256, "attn_pdrop": 0.1},
    ),
    "mixtral": (
        "mixtral",
        {**_SHAPE, "num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": None},
    ),
    "qwen3_moe": (
        "qwen3_moe",
        {
            **_SHAPE,
            "head_dim": 16,
            "moe_intermediate_size": 24,
            "num_experts": 4,
            "num_experts_per_tok": 2,
            "decoder_sparse_step": 1,
            "mlp_only_layers": [],
        },
    ),
    "olmo2": ("olmo2", _SHAPE),
    "granite": (
        "granite",
        {**_SHAPE, "logits_scaling": 4.0, "embedding_multiplier": 3.0, "residual_multiplier": 0.5},
    ),
    "smollm3": ("smollm3", {**_SHAPE, "no_rope_layers": [1, 0], "pad_token_id": EOS}),
    "qwen3_next": (
        "qwen3_next",
        {
            **_SHAPE,
            "head_dim": 16,
            "moe_intermediate_size": 24,
            "shared_expert_intermediate_size": 24,
            "num_experts": 4,
            "num_experts_per_tok": 2,
            "decoder_sparse_step": 1,
            "mlp_only_layers": [],
            "linear_num_key_heads": 2,
            "linear_num_value_heads": 4,
            "linear_key_head_dim": 8,
            "linear_value_head_dim": 8,
            "layer_types": ["linear_attention", "full_attention"],
        },
    ),
}

FAMILIES = tuple(_FAMILIES)
PACKABLE = tuple(name for name in FAMILIES if name != "qwen3_next")


def tiny_config(
    family: str = "llama", *, vocab: int = VOCAB, tie: bool = False, **overrides: Any
) -> PretrainedConfig:
    """The config of a two-layer model of a real family; `overrides` are fields of that config."""
    model_type, fields = _FAMILIES[family]
    fields = {
        "bos_token_id": EOS,
        "eos_token_id": IM_END,
        **fields,
        "vocab_size": vocab,
        "tie_word_embeddings": tie,
        **overrides,
    }
    return AutoConfig.for_model(model_type, **fields)


def tiny_tokenizer(path: Path) -> Path:
    """Write a byte-level tokenizer of 259 tokens with a ChatML-like template into a folder."""
    path.mkdir(parents=True, exist_ok=True)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={char: i for i, char in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in SPECIAL])
    tokenizer.save(str(path / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": None,
        "eos_token": SPECIAL[2],
        "pad_token": SPECIAL[0],
        "model_max_length": 256,
        "clean_up_tokenization_spaces": False,
        "chat_template": TEMPLATE,
    }
    (path / "tokenizer_config.json").write_text(json.dumps(config, indent=2))
    return path


def tiny_model_folder(
    path: Path,
    family: str = "llama",
    *,
    seed: int = 0,
    vocab: int = VOCAB,
    tie: bool = False,
    spread: float = 0.2,
    dtype: torch.dtype = torch.float32,
    **overrides: Any,
) -> Path:
    """Write a random model with its tokenizer; returns the folder.

    Args:
        spread: Standard deviation of the matrices; the 0.02 of real initialisers would hide faults
            behind nearly uniform outputs.
    """
    config = tiny_config(family, vocab=vocab, tie=tie, **overrides)
    config.dtype = torch.float32
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config)
        with torch.no_grad():
            for weight in model.parameters():
                if weight.dim() > 1:
                    weight.normal_(std=spread)
                else:  # norms and biases: not at their symmetric start, so that they count
                    weight.add_(0.1 * torch.randn_like(weight))
    model.tie_weights()
    model.to(dtype).save_pretrained(path)
    return tiny_tokenizer(path)
