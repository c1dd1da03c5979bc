"""NEFTune's noise: its size, that nothing but the token decides it, and that only training has it."""

import numpy as np
import torch
from tests.tiny import tiny_model_folder

from luthier.data.packing.pack import pack
from luthier.data.types import Sequence
from luthier.kernels.dropout import TokenKeys, uniform
from luthier.models.load import load_base
from luthier.models.scorer import Scorer


def sequence(length: int) -> Sequence:
    weights = np.zeros(length, np.float32)
    weights[length // 2 :] = 1
    return Sequence(np.arange(3, 3 + length, dtype=np.int32), weights)


def test_noise_is_even_between_minus_one_and_one():
    keys = TokenKeys()
    keys.set(seed=1, step=1, sample_T=torch.arange(512), position_T=torch.zeros(512))
    noise = uniform(keys.of_module(3), 30)
    assert noise.shape == (512, 30)
    assert noise.abs().max() < 1
    assert abs(noise.mean().item()) < 0.02
    assert abs(noise.square().mean().item() - 1 / 3) < 0.01


def test_a_step_has_noise_of_the_papers_size_whatever_the_cut_and_an_evaluation_has_none(tmp_path):
    folder = tiny_model_folder(tmp_path, "llama")
    model = load_base(folder, dtype=torch.float32)
    seen: list[torch.Tensor] = []
    plain = Scorer(model)(pack([sequence(9), sequence(20)], share=False)).logp_S
    scorer = Scorer(model, noise_alpha=5.0, seed=7)
    model.get_input_embeddings().register_forward_hook(
        lambda *given: seen.append(given[2].detach())
    )
    both = [sequence(9), sequence(20)]
    assert torch.equal(scorer(pack(both, share=False)).logp_S, plain)
    whole = scorer(pack(both, share=False, sample_ids=[0, 1]), step=3).logp_S
    parts = [
        scorer(pack([one], share=False, sample_ids=[at]), step=3).logp_S
        for at, one in enumerate(both)
    ]
    assert (whole - plain).abs().max() > 1e-4
    torch.testing.assert_close(whole, torch.cat(parts), atol=1e-5, rtol=1e-5)
    other = scorer(pack(both, share=False, sample_ids=[0, 1]), step=4).logp_S
    assert (whole - other).abs().max() > 1e-4
    table = model.get_input_embeddings().weight
    for noised, ids in ((seen[2], both[0].ids), (seen[3], both[1].ids)):
        rows = torch.from_numpy(ids[: noised.shape[1]].astype(np.int64))
        noise = noised[0] - table[rows]
        bound = 5.0 / (noised.shape[1] * noised.shape[2]) ** 0.5
        assert 0.9 * bound < noise.abs().max() < bound
