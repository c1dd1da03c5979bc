"""The closed forms, on numbers worked by hand."""

import pytest

from luthier.planner.budget import Shape, micro_batch_tokens, recomputation
from luthier.units import GIB

LLAMA_7B = Shape.from_config(
    {
        "hidden_size": 4096,
        "num_hidden_layers": 32,
        "intermediate_size": 11008,
        "num_attention_heads": 32,
        "vocab_size": 32000,
    }
)


def test_gpt2_spells_its_numbers_differently():
    shape = Shape.from_config({"n_embd": 768, "n_layer": 12, "n_head": 12, "vocab_size": 50257})
    assert (shape.hidden, shape.layers, shape.intermediate, shape.head_dim) == (768, 12, 3072, 64)


def test_llama_7b_keeps_what_eager_layers_keep():
    # reference figure for eager layers with 16-bit adapters: 170,224 bytes per token and layer
    per_layer = LLAMA_7B.activation_bytes(2, recompute=False) / 32
    assert per_layer == pytest.approx(170_224, rel=0.1)


def test_recomputation_keeps_one_hidden_state_per_layer_and_one_layer():
    kept = LLAMA_7B.activation_bytes(2, recompute=True)
    one_layer = LLAMA_7B.activation_bytes(2, recompute=False) // 32
    assert kept == 32 * 4096 * 2 + one_layer


def test_memory_decides_the_cut_and_recomputation():
    plenty = {"free_bytes": 80 * GIB, "element_bytes": 2, "longest_sample": 2048}
    assert recomputation(LLAMA_7B, **plenty)[0] is False
    scarce = {"free_bytes": 6 * GIB, "element_bytes": 2, "longest_sample": 2048}
    recompute, reason = recomputation(LLAMA_7B, **scarce)
    assert recompute
    assert "6 GiB" in reason
    chosen = micro_batch_tokens(LLAMA_7B, **scarce, recompute=True, cuda=True)
    assert 2048 <= chosen.value < 16384
    assert chosen.value * LLAMA_7B.activation_bytes(2, recompute=True) <= 6 * GIB


def test_a_sample_larger_than_memory_still_gets_its_own_micro_batch():
    chosen = micro_batch_tokens(
        LLAMA_7B, free_bytes=-1, element_bytes=2, recompute=True, longest_sample=512, cuda=False
    )
    assert chosen.value == 512
