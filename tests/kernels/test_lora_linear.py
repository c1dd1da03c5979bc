"""The LoRA linear layer against the plain formula: value, gradients, and what it keeps."""

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from luthier.kernels.cpu import matmul_dtype
from luthier.kernels.dropout import TokenKeys
from luthier.kernels.lora_linear import lora_linear, lora_linear_plain, lora_scale

TOKENS, INPUTS, OUTPUTS, RANK = 11, 6, 10, 3


class Rounded:
    """A frozen weight in whole eighths: stands for a quantised one, and counts how often it is asked."""

    def __init__(self, weight: Tensor) -> None:
        self.eighths, self.asked = (weight * 8).round().to(torch.int8), 0

    def dequantised(self) -> Tensor:
        self.asked += 1
        return self.eighths.float() / 8


class Parts(NamedTuple):
    x: Tensor
    weight: Tensor
    bias_O: Tensor
    lora_A_RI: Tensor
    lora_B_OR: Tensor


def parts(dtype: torch.dtype, *, transposed: bool = False, shape: tuple[int, ...] = ()) -> Parts:
    torch.manual_seed(0)
    weight = torch.randn((INPUTS, OUTPUTS) if transposed else (OUTPUTS, INPUTS))
    masters = torch.float64 if dtype == torch.float64 else torch.float32
    return Parts(
        torch.randn(*(shape or (1, TOKENS)), INPUTS).to(dtype),
        weight.to(dtype),
        torch.randn(OUTPUTS).to(dtype),
        torch.randn(RANK, INPUTS, dtype=masters),
        torch.randn(OUTPUTS, RANK, dtype=masters),
    )


def token_keys(rows: int = TOKENS) -> TokenKeys:
    keys = TokenKeys()
    keys.set(seed=1, step=2, sample_T=torch.zeros(rows), position_T=torch.arange(rows))
    return keys


def run(function: Callable[..., Tensor], given: Parts, **options: Any) -> list[Tensor]:
    """Output and the gradients of x, A and B, under a gradient that is not constant."""
    x, lora_A_RI, lora_B_OR = (
        tensor.detach().clone().requires_grad_()
        for tensor in (given.x, given.lora_A_RI, given.lora_B_OR)
    )
    weight, bias_O = options.pop("weight", given.weight), options.pop("bias_O", given.bias_O)
    y = function(x, weight, bias_O, lora_A_RI, lora_B_OR, 0.7, **options)
    y.backward((torch.arange(y.numel()) % 7 - 2).to(y.dtype).view(y.shape))
    assert x.grad is not None
    assert lora_A_RI.grad is not None
    assert lora_B_OR.grad is not None
    return [y.detach(), x.grad, lora_A_RI.grad, lora_B_OR.grad]


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("shape", [(TOKENS,), (1, TOKENS), (2, 4)])
def test_equals_the_plain_twin(
    transposed: bool, dropout: float, bias: bool, shape: tuple[int, ...]
) -> None:
    given = parts(torch.float64, transposed=transposed, shape=shape)
    options: dict[str, Any] = {"transposed": transposed, "dropout": dropout, "module": 5}
    options |= {} if bias else {"bias_O": None}
    options["keys"] = token_keys(given.x.numel() // INPUTS)
    ours = run(lora_linear, given, **options)
    plain = run(lora_linear_plain, given, **options)
    torch.testing.assert_close(ours, plain, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_gradcheck(dropout: float) -> None:
    given = parts(torch.float64)
    leaves = [leaf.requires_grad_() for leaf in (given.x, given.lora_A_RI, given.lora_B_OR)]
    keys = token_keys()

    def call(x: Tensor, lora_A_RI: Tensor, lora_B_OR: Tensor) -> Tensor:
        return lora_linear(
            x, given.weight, None, lora_A_RI, lora_B_OR, 1.5, dropout=dropout, keys=keys
        )

    assert torch.autograd.gradcheck(call, leaves)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_lower_precision_stays_near_float64(dtype: torch.dtype) -> None:
    given = parts(dtype)
    ours = run(lora_linear, given)
    exact = run(lora_linear_plain, Parts(*(tensor.double() for tensor in given)))
    emulated = dtype != torch.float32 and matmul_dtype(dtype, given.x.device) == torch.float32
    for name, mine, expected in zip(("y", "x", "A", "B"), ours, exact, strict=True):
        assert mine.dtype == (torch.float32 if name in "AB" else dtype)
        rounding = torch.finfo(dtype).eps
        if emulated and name in "AB":
            rounding = torch.finfo(torch.float32).eps  # made and kept in float32 throughout
        assert (mine.double() - expected).norm() < 4 * rounding * expected.norm()


def test_a_dequantised_weight_is_made_again_and_not_kept() -> None:
    given = parts(torch.float32)
    weight = Rounded(given.weight)
    kept: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        ours = run(lora_linear, given, weight=weight)
    assert weight.asked == 2
    shapes = sorted(tuple(tensor.shape) for tensor in kept)
    assert shapes == sorted([(1, TOKENS, INPUTS), (TOKENS, RANK), (RANK, INPUTS), (OUTPUTS, RANK)])
    plain = run(lora_linear_plain, given, weight=weight.dequantised())
    torch.testing.assert_close(ours, plain)


def test_siblings_save_the_same_input() -> None:
    given = parts(torch.float32)
    x = given.x.requires_grad_()
    kept: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        for _ in range(3):
            lora_linear(x, *given[1:], 1.0)
    inputs = [tensor for tensor in kept if tensor.shape == x.shape]
    assert len(inputs) == 3
    assert {tensor.data_ptr() for tensor in inputs} == {x.data_ptr()}


def test_an_input_without_gradient_gets_none() -> None:
    given = parts(torch.float32)
    weight = Rounded(given.weight)
    lora_A_RI, lora_B_OR = given.lora_A_RI.requires_grad_(), given.lora_B_OR.requires_grad_()
    lora_linear(given.x, weight, None, lora_A_RI, lora_B_OR, 1.0).sum().backward()
    assert weight.asked == 1  # the first layer needs the base weight in the forward pass only
    assert given.x.grad is None
    assert lora_A_RI.grad is not None


def test_a_new_adapter_changes_no_bit_of_the_base() -> None:
    given = parts(torch.float32)
    y = lora_linear(
        given.x, given.weight, given.bias_O, given.lora_A_RI, torch.zeros(OUTPUTS, RANK), 2.0
    )
    assert torch.equal(y, torch.nn.functional.linear(given.x, given.weight, given.bias_O))


def test_a_changed_master_between_forward_and_backward_is_noticed() -> None:
    given = parts(torch.float32)
    lora_A_RI = given.lora_A_RI.requires_grad_()
    y = lora_linear(given.x, given.weight, None, lora_A_RI, given.lora_B_OR, 1.0)
    with torch.no_grad():
        lora_A_RI += 1
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


def test_a_trained_base_is_refused() -> None:
    given = parts(torch.float32)
    with pytest.raises(AssertionError, match="no gradient"):
        lora_linear(
            given.x, given.weight.requires_grad_(), None, given.lora_A_RI, given.lora_B_OR, 1.0
        )


def test_scales() -> None:
    assert lora_scale(16, 8) == 2.0
    assert lora_scale(16, 64, rank_stabilised=True) == 2.0
