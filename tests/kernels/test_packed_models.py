"""Real architectures, packed, against the same model fed one sequence at a time in eager float64."""

import numpy as np
import pytest
import torch
from tests.tiny import FAMILIES, PACKABLE, VOCAB, tiny_config
from torch import nn
from transformers import AutoModelForCausalLM

from luthier.data.packing.pack import PackedBatch, pack
from luthier.data.types import Sequence
from luthier.kernels.attention import ATTENTION, TreeLayout, register


def model_of(family: str, dtype: torch.dtype) -> nn.Module:
    config = tiny_config(family)
    for name in ("attention_dropout", "attn_pdrop", "embd_pdrop", "resid_pdrop"):
        if hasattr(config, name):
            setattr(config, name, 0.0)
    config.dtype = torch.float64
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(
            config, attn_implementation="eager", experts_implementation="eager"
        )
        for weight in model.parameters():
            nn.init.normal_(weight, std=0.15)
    return model.to(dtype).train()


def rows() -> list[Sequence]:
    """A system prompt, a pair below it, turns of a dialogue, and a row of its own."""
    rng = np.random.default_rng(1)
    stem, branch = rng.integers(0, 256, 18), rng.integers(0, 256, 9)
    parts = [
        [*stem, *branch, *rng.integers(0, 256, 13)],
        [*stem, *branch, *rng.integers(0, 256, 4)],
        [*stem, *rng.integers(0, 256, 21)],
        rng.integers(0, 256, 11),
    ]
    made = []
    for ids in parts:
        weights = np.ones(len(ids), dtype=np.float32)
        weights[:5] = 0
        made.append(Sequence(np.array(ids, dtype=np.int32), weights))
    return made


def packed_logits(model: nn.Module, batch: PackedBatch) -> torch.Tensor:
    model.set_attn_implementation(ATTENTION)  # type: ignore[operator]
    out = model(
        input_ids=torch.from_numpy(batch.ids).long()[None],
        position_ids=torch.from_numpy(batch.positions).long()[None],
        use_cache=False,
        tree=TreeLayout.from_batch(batch),
    )
    return out.logits[0].index_select(0, torch.from_numpy(batch.target_row))


@pytest.mark.parametrize("share", [True, False], ids=["shared", "apart"])
@pytest.mark.parametrize("family", PACKABLE)
def test_packed_equals_one_sequence_at_a_time(family: str, share: bool) -> None:
    register()
    sequences = rows()
    reference, model = model_of(family, torch.float64), model_of(family, torch.float32)
    wanted = []
    for sequence in sequences:
        logits = reference(torch.from_numpy(sequence.ids).long()[None], use_cache=False).logits[0]
        wanted.append(logits[torch.from_numpy(np.flatnonzero(sequence.weights[1:]))])
    wanted_SV = torch.cat(wanted)

    batch = pack(sequences, share=share, min_shared=2)
    assert (len(batch.ids) < sum(len(s.ids) - 1 for s in sequences)) is share
    found_SV = packed_logits(model, batch)
    assert found_SV.shape == (len(batch.target_row), VOCAB)
    assert (found_SV.double() - wanted_SV).abs().max() <= 1e-5 * wanted_SV.abs().max()

    target_S = torch.from_numpy(batch.target_token).long()
    for logits_SV in (wanted_SV, found_SV):
        nn.functional.cross_entropy(logits_SV, target_S, reduction="sum").backward()
    theirs = dict(reference.named_parameters())
    for name, weight in model.named_parameters():
        wanted_grad = theirs[name].grad
        error = (weight.grad.double() - wanted_grad).norm() / wanted_grad.norm().clamp_min(1e-6)
        assert error <= 1e-5, f"{name}: {error:.1e}"


@pytest.mark.parametrize("family", sorted(set(FAMILIES) - set(PACKABLE)))
def test_what_cannot_be_packed_runs_one_sequence_at_a_time(family: str) -> None:
    register()
    reference, model = model_of(family, torch.float64), model_of(family, torch.float32)
    for sequence in rows():
        batch = pack([sequence])
        found_SV = packed_logits(model, batch)
        ids = torch.from_numpy(batch.ids).long()[None]
        wanted_TV = reference(ids, use_cache=False).logits[0]
        wanted_SV = wanted_TV.index_select(0, torch.from_numpy(batch.target_row))
        assert (found_SV - wanted_SV).abs().max() <= 1e-5 * wanted_SV.abs().max()


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2", "mistral"])
def test_one_sequence_moves_no_bit_of_another(family: str) -> None:
    register()
    model = model_of(family, torch.float32)
    sequences = rows()
    changed = Sequence(sequences[3].ids[::-1].copy(), sequences[3].weights)
    before, after = (pack([*sequences[:3], last], min_shared=2) for last in (sequences[3], changed))
    assert before.nodes == after.nodes
    with torch.no_grad():
        found = [packed_logits(model, batch) for batch in (before, after)]
    others = torch.from_numpy(before.target_sequence != 3)
    assert torch.equal(found[0][others], found[1][others])
    assert not torch.equal(found[0][~others], found[1][~others])


@pytest.mark.parametrize("family", ["llama", "gpt2", "mistral"])
def test_a_model_called_without_its_tree_raises(family: str) -> None:
    register()
    model = model_of(family, torch.float32)
    model.set_attn_implementation(ATTENTION)  # type: ignore[operator]
    with pytest.raises(AssertionError, match="without tree"):
        model(input_ids=torch.zeros(1, 4, dtype=torch.long))
