"""Fused modules: the same numbers, gradients and file names as those they take the place of."""

import pytest
import torch
from tests.models.test_scorer import sequences
from tests.tiny import PACKABLE, tiny_model_folder

from luthier.data.packing.pack import pack
from luthier.gallery import family_of
from luthier.models.adapters import attach
from luthier.models.fuse import FrozenLinear, FusedGate, FusedNorm, fuse
from luthier.models.load import load_base
from luthier.models.scorer import Scorer
from luthier.models.targets import default_targets

WITHOUT = {"gpt2": (0, 0), "mixtral": (1, 0), "qwen3_moe": (1, 0), "olmo2": (0, 1)}


def scored(folder, *, fused: bool, full: bool, dtype=torch.float32):
    model = load_base(folder, dtype=dtype)
    if fused:
        fuse(model)
    if full:
        model.requires_grad_(True)
        trained = dict(model.named_parameters())
    else:
        targets = default_targets(model, family_of(model.config.to_dict()))
        trained = dict(attach(model, rank=4, alpha=8, targets=targets, seed=0).named_trained())
        with torch.no_grad():
            for name, weight in trained.items():
                if "lora_B" in name:
                    weight.normal_(std=0.1, generator=torch.Generator().manual_seed(1))
    logp = Scorer(model)(pack(sequences(), min_shared=4)).logp_S
    logp.sum().backward()
    return model, logp.detach(), {name: weight.grad for name, weight in trained.items()}


@pytest.mark.parametrize(
    ("family", "full"),
    [(family, False) for family in PACKABLE]
    + [(family, True) for family in ("llama", "gemma3", "phi3")],
)
def test_fused_equals_plain(tmp_path, family, full):
    folder = tiny_model_folder(tmp_path, family)
    plain, logp, gradients = scored(folder, fused=False, full=full)
    model, fused_logp, fused_gradients = scored(folder, fused=True, full=full)
    norms, gates = (
        any(isinstance(m, kind) for m in model.modules()) for kind in (FusedNorm, FusedGate)
    )
    assert (norms, gates) == WITHOUT.get(family, (1, 1))
    torch.testing.assert_close(fused_logp, logp, atol=2e-5, rtol=1e-5)
    assert fused_gradients.keys() == gradients.keys()
    for name, gradient in gradients.items():
        worst = (fused_gradients[name] - gradient).norm() / gradient.norm().clamp(min=1e-12)
        assert worst < 1e-5, name
    assert model.state_dict().keys() == plain.state_dict().keys()


@pytest.mark.parametrize("family", ["llama", "gemma2", "phi3"])
def test_fused_in_16_bits_rounds_as_the_family_does(tmp_path, family):
    folder = tiny_model_folder(tmp_path, family)
    _, logp, _ = scored(folder, fused=False, full=False, dtype=torch.bfloat16)
    model, fused_logp, gradients = scored(folder, fused=True, full=False, dtype=torch.bfloat16)
    _, exact, _ = scored(folder, fused=False, full=False)
    assert (fused_logp - exact).norm() <= 1.1 * (logp - exact).norm()
    assert all(gradient.dtype == torch.float32 for gradient in gradients.values())
    frozen = any(isinstance(module, FrozenLinear) for module in model.modules())
    assert frozen == (torch.backends.mkldnn.is_available() and not _fast_bf16())


def _fast_bf16() -> bool:
    from luthier.kernels.cpu import bf16_matmul_is_fast

    return bf16_matmul_is_fast()
