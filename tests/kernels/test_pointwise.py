"""Gated activations and RMS norms against their plain twins and transformers' own."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers.models.gemma2.modeling_gemma2 import Gemma2RMSNorm
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from luthier.kernels.pointwise import (
    Activation,
    gated_plain,
    geglu,
    rms_norm,
    rms_norm_plain,
    swiglu,
)

LOW = [torch.bfloat16, torch.float16]


def differentiated(function: Callable[..., Tensor], *inputs: Tensor) -> list[Tensor]:
    leaves = [tensor.detach().clone().requires_grad_(tensor.requires_grad) for tensor in inputs]
    y = function(*leaves)
    y.backward((torch.arange(y.numel()) % 7 - 2).to(y.dtype).view(y.shape))
    return [y.detach(), *(leaf.grad for leaf in leaves if leaf.grad is not None)]


def pair(dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    gate, up = torch.randn(2, 1, 5, 12, dtype=torch.float64).mul(3).to(dtype)
    return gate.requires_grad_(), up.requires_grad_()


@pytest.mark.parametrize(("ours", "activation"), [(swiglu, "silu"), (geglu, "gelu_tanh")])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, *LOW])
def test_gates_equal_the_plain_twin(
    ours: Callable[..., Tensor], activation: Activation, dtype: torch.dtype
) -> None:
    gate, up = pair(dtype)
    mine = differentiated(ours, gate, up)
    plain = differentiated(lambda gate, up: gated_plain(gate, up, activation), gate, up)
    for one, other in zip(mine, plain, strict=True):
        assert one.dtype == dtype
        assert torch.equal(one, other)  # the same operations in the same order


@pytest.mark.parametrize("ours", [swiglu, geglu])
def test_gates_pass_gradcheck_and_keep_two_tensors(ours: Callable[..., Tensor]) -> None:
    gate, up = pair(torch.float64)
    assert torch.autograd.gradcheck(ours, (gate, up))
    kept: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        ours(gate, up)
    assert [tensor.data_ptr() for tensor in kept] == [gate.data_ptr(), up.data_ptr()]


def row(dtype: torch.dtype) -> Tensor:
    torch.manual_seed(1)
    x = torch.randn(2, 3, 16, dtype=torch.float64) * torch.logspace(-3, 3, 16, dtype=torch.float64)
    return x.to(dtype).requires_grad_()


@pytest.mark.parametrize("trained", [False, True])
@pytest.mark.parametrize("offset", [0.0, 1.0])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, *LOW])
def test_norms_equal_the_plain_twin(dtype: torch.dtype, offset: float, trained: bool) -> None:
    weight = torch.linspace(-0.5, 1.5, 16, dtype=torch.float64).to(dtype).requires_grad_(trained)
    x = row(dtype)
    mine = differentiated(lambda x, w: rms_norm(x, w, 1e-5, offset=offset), x, weight)
    plain = differentiated(lambda x, w: rms_norm_plain(x, w, 1e-5, offset=offset), x, weight)
    rounding = 8 * torch.finfo(dtype).eps
    for one, other in zip(mine, plain, strict=True):
        assert one.dtype == dtype
        scale = other.abs().max().item()
        torch.testing.assert_close(one, other, rtol=rounding, atol=rounding * scale)


@pytest.mark.parametrize("offset", [0.0, 1.0])
def test_norms_pass_gradcheck(offset: float) -> None:
    x = torch.randn(3, 8, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(8, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, w: rms_norm(x, w, 1e-5, offset=offset), (x, weight))


@pytest.mark.parametrize("dtype", [torch.float32, *LOW])
@pytest.mark.parametrize(("module", "offset"), [(LlamaRMSNorm, 0.0), (Gemma2RMSNorm, 1.0)])
def test_norms_equal_those_of_transformers(module: Any, offset: float, dtype: torch.dtype) -> None:
    theirs = module(16, eps=1e-5).to(dtype)
    with torch.no_grad():
        theirs.weight.copy_(torch.linspace(-0.5, 1.5, 16))
    x = row(dtype).detach()
    mine = rms_norm(x, theirs.weight.detach(), 1e-5, offset=offset)
    expected = theirs(x).detach()
    assert mine.dtype == expected.dtype
    torch.testing.assert_close(mine, expected, rtol=2 * torch.finfo(dtype).eps, atol=0)


def test_a_norm_keeps_its_input_and_one_number_a_row() -> None:
    x, weight = row(torch.bfloat16), torch.ones(16, dtype=torch.bfloat16)
    kept: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        rms_norm(x, weight, 1e-5)
    assert [tuple(tensor.shape) for tensor in kept] == [(2, 3, 16), (2, 3, 1), (16,)]
    assert kept[0].data_ptr() == x.data_ptr()
