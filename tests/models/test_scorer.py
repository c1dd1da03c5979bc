"""Packed scoring against transformers' own eager logits, one sequence at a time, in float64 where it counts."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tests.tiny import PACKABLE, tiny_model_folder
from transformers import AutoModelForCausalLM

from luthier.data.packing.pack import pack
from luthier.data.types import Sequence
from luthier.errors import ArchitectureError
from luthier.gallery import family_of
from luthier.models.adapters import attach
from luthier.models.build import generation_mode
from luthier.models.load import load_base
from luthier.models.scorer import Scorer, check_head
from luthier.models.targets import default_targets


def sequences(seed: int = 0, *, vocab: int = 259) -> list[Sequence]:
    """Seven sequences of 7 to 30 tokens, some of which share a long beginning."""
    draw = np.random.default_rng(seed)
    shared = draw.integers(0, vocab, 12)
    made = []
    for length in (7, 11, 15, 20, 25, 30, 9):
        ids = draw.integers(0, vocab, length)
        if length > 12 and length % 2:
            ids[:12] = shared
        weights = (draw.random(length) < 0.6).astype(np.float32) * draw.choice([1, 0.5], length)
        weights[0], weights[-1] = 0, 1
        made.append(Sequence(ids.astype(np.int32), weights.astype(np.float32)))
    return made


def reference(folder: Path, rows: list[Sequence]) -> list[torch.Tensor]:
    """Log-probabilities of the targets of each sequence from transformers alone, in float64."""
    model = AutoModelForCausalLM.from_pretrained(
        folder, attn_implementation="eager", experts_implementation="eager", dtype=torch.float64
    ).eval()
    logps = []
    for row in rows:
        ids = torch.from_numpy(row.ids).long()
        with torch.no_grad():
            logp = model(ids[None]).logits[0, :-1].double().log_softmax(-1)
        targets = torch.from_numpy(np.flatnonzero(row.weights))
        logps.append(logp[targets - 1, ids[targets]])
    return logps


def assert_scores(scores, batch, expected, tolerance: float) -> None:
    for number, theirs in enumerate(expected):
        mine = scores.logp_S[torch.from_numpy(batch.target_sequence == number)]
        assert len(mine) == len(theirs)
        torch.testing.assert_close(mine.double(), theirs, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("family", PACKABLE)
@pytest.mark.parametrize("share", [False, True])
def test_packed_scores_equal_those_of_one_sequence_at_a_time(tmp_path, family, share):
    folder = tiny_model_folder(tmp_path, family)
    rows = sequences()
    batch = pack(rows, share=share, min_shared=4)
    model = load_base(folder, dtype=torch.float32)
    with torch.no_grad():
        scores = Scorer(model)(batch)
    assert_scores(scores, batch, reference(folder, rows), 2e-5)


@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt2", "phi3", "mixtral", "qwen3_next"])
def test_unpacked_scores_equal_those_of_one_sequence_at_a_time(tmp_path, family):
    folder = tiny_model_folder(tmp_path, family)
    rows = sequences(1)
    batch = pack(rows, share=True, min_shared=4)
    model = load_base(folder, dtype=torch.float32)
    with torch.no_grad():
        scores = Scorer(model, packed=False)(batch)
    assert_scores(scores, batch, reference(folder, rows), 2e-5)


@pytest.mark.parametrize("family", PACKABLE)
def test_every_layer_learns_and_recomputation_changes_no_gradient(tmp_path, family):
    folder = tiny_model_folder(tmp_path, family)
    batch = pack(sequences(2), min_shared=4)
    gradients = []
    for checkpointing in ("none", "full"):
        model = load_base(folder, dtype=torch.float32)
        adapters = attach(
            model,
            rank=4,
            alpha=8,
            dropout=0.1,
            targets=default_targets(model, family_of(model.config.to_dict())),
            seed=1,
        )
        with torch.no_grad():
            for layer in adapters.layers.values():
                layer.lora_B.normal_(std=0.1, generator=torch.Generator().manual_seed(2))
        scorer = Scorer(model, adapters=adapters, checkpointing=checkpointing)
        scorer(batch, step=3).logp_S.sum().backward()
        gradients.append({name: weight.grad for name, weight in adapters.named_trained()})
    plain, recomputed = gradients
    assert all(grad is not None and grad.abs().sum() > 0 for grad in plain.values())
    for name, grad in plain.items():
        assert torch.equal(grad, recomputed[name]), name


def test_dropout_belongs_to_the_step_alone(tmp_path):
    folder = tiny_model_folder(tmp_path)
    model = load_base(folder, dtype=torch.float32)
    adapters = attach(model, rank=4, alpha=8, dropout=0.5, targets=["q_proj", "v_proj"], seed=1)
    with torch.no_grad():
        for layer in adapters.layers.values():
            layer.lora_B.normal_()
    scorer = Scorer(model, adapters=adapters)
    rows = sequences()
    whole = pack(rows, share=False)
    with torch.no_grad():
        first, again, other, off = (scorer(whole, step=s).logp_S for s in (1, 1, 2, None))
        alone = scorer(pack(rows[3:4], share=False, sample_ids=[3]), step=1).logp_S
        unpacked = Scorer(model, adapters=adapters, packed=False)(whole, step=1).logp_S
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not torch.equal(first, off)
    torch.testing.assert_close(
        first[torch.from_numpy(whole.target_sequence == 3)], alone, atol=1e-5, rtol=0
    )
    torch.testing.assert_close(first, unpacked, atol=1e-5, rtol=0)


def test_two_sequences_of_one_sample_drop_different_elements(tmp_path):
    model = load_base(tiny_model_folder(tmp_path), dtype=torch.float32)
    adapters = attach(model, rank=4, alpha=8, dropout=0.5, targets=["q_proj", "v_proj"], seed=1)
    with torch.no_grad():
        for layer in adapters.layers.values():
            layer.lora_B.normal_()
    row = sequences()[5]
    batch = pack([row, row], share=False, sample_ids=[7, 7])
    logp = Scorer(model, adapters=adapters)(batch, step=1).logp_S.detach()
    half = len(logp) // 2
    assert not torch.allclose(logp[:half], logp[half:], atol=1e-3)


def test_the_head_is_compared_with_the_models_own(tmp_path):
    for family in ("gemma2", "granite", "llama"):
        check_head(load_base(tiny_model_folder(tmp_path / family, family), dtype=torch.float32))
    model = load_base(tiny_model_folder(tmp_path / "odd", "granite"), dtype=torch.float32)
    model.config.logits_scaling_elsewhere = model.config.logits_scaling
    head, scale = model.get_output_embeddings(), model.config.logits_scaling
    head.register_forward_hook(lambda module, inputs, output: output * scale)
    with pytest.raises(ArchitectureError, match="does something that luthier does not know"):
        check_head(model)


def test_dropout_is_off_in_generation_even_right_after_a_step(tmp_path):
    model = load_base(tiny_model_folder(tmp_path), dtype=torch.float32)
    adapters = attach(model, rank=4, alpha=8, dropout=0.5, targets=["q_proj", "v_proj"], seed=1)
    with torch.no_grad():
        for layer in adapters.layers.values():
            layer.lora_B.normal_()
    scorer, batch, ids = Scorer(model, adapters=adapters), pack(sequences()), torch.arange(9)[None]
    with torch.no_grad(), generation_mode(model):
        before = model(ids).logits
    scorer(batch, step=1)
    with torch.no_grad(), generation_mode(model):
        assert torch.equal(model(ids).logits, before)


def longrope(tmp_path):
    half = 32 // 4 // 2
    rope = {
        "rope_type": "longrope",
        "rope_theta": 10_000.0,
        "short_factor": [1.0] * half,
        "long_factor": [4.0] * half,
        "original_max_position_embeddings": 20,
    }
    folder = tiny_model_folder(
        tmp_path, "phi3", rope_parameters=rope, original_max_position_embeddings=20
    )
    return load_base(folder, dtype=torch.float32)


@pytest.mark.parametrize("share", [True, False])
def test_a_sequence_beyond_the_border_of_its_positions_changes_no_other(tmp_path, share):
    model = longrope(tmp_path)
    rows = sequences()
    assert {len(row.ids) > 20 for row in rows} == {True, False}
    batch = pack(rows, share=share)
    with torch.no_grad():
        found = Scorer(model)(batch).logp_S
        for number, row in enumerate(rows):
            with generation_mode(model):
                logits = model(input_ids=torch.from_numpy(row.ids).long()[None]).logits[0]
            whole = logits.log_softmax(-1)[:-1].gather(
                -1, torch.from_numpy(row.ids[1:]).long()[:, None]
            )
            wanted = whole[:, 0][torch.from_numpy(row.weights[1:] > 0)]
            ours = found[torch.from_numpy(batch.target_sequence == number)]
            assert torch.allclose(ours, wanted, atol=1e-4), number


@pytest.mark.parametrize("packed", [True, False])
def test_layers_computed_again_drop_out_the_tokens_of_their_own_sequence(tmp_path, packed):
    gradients = []
    for checkpointing in ("none", "full"):
        model = longrope(tmp_path / checkpointing)
        adapters = attach(model, rank=4, alpha=8, dropout=0.3, targets=["qkv_proj"], seed=1)
        with torch.no_grad():
            for layer in adapters.layers.values():
                layer.lora_B.fill_(0.1)
        scorer = Scorer(model, adapters=adapters, packed=packed, checkpointing=checkpointing)
        scorer(pack(sequences(), share=False), step=3).logp_S.sum().backward()
        gradients.append([weight.grad for _, weight in adapters.named_trained()])
    for plain, again in zip(*gradients, strict=True):
        assert plain.abs().sum() > 0
        assert torch.allclose(plain, again, atol=1e-6)
