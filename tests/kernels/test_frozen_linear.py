"""Frozen linear layers: the gradient of the input alone, and nothing kept."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from luthier.kernels.cpu import matmul_dtype
from luthier.kernels.frozen_linear import Dequantisable, frozen_linear


class Rounded:
    def __init__(self, weight: Tensor) -> None:
        self.eighths, self.asked = (weight * 8).round().to(torch.int8), 0

    def dequantised(self) -> Tensor:
        self.asked += 1
        return self.eighths.float() / 8


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_equals_a_plain_linear_layer(dtype: torch.dtype, packed: bool, transposed: bool) -> None:
    torch.manual_seed(0)
    weight = torch.randn((6, 9) if transposed else (9, 6)).mul(8).round().div(8).to(dtype)
    bias_O = torch.randn(9, dtype=dtype)
    x, twin = (torch.linspace(-1, 1, 30, dtype=dtype).view(1, 5, 6).requires_grad_() for _ in "ab")
    stored: Tensor | Dequantisable = Rounded(weight) if packed else weight
    y = frozen_linear(x, stored, bias_O, transposed=transposed)
    plain = F.linear(twin, weight.t() if transposed else weight, bias_O)
    pull = torch.linspace(-1, 2, 45, dtype=dtype).view(1, 5, 9)
    y.backward(pull)
    plain.backward(pull)
    torch.testing.assert_close(y, plain)
    torch.testing.assert_close(x.grad, twin.grad)


def test_gradcheck() -> None:
    weight = Rounded(torch.randn(4, 3))
    x = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: frozen_linear(x, weight), (x,))


def test_a_dequantised_weight_is_made_twice_and_never_saved() -> None:
    weight = Rounded(torch.randn(4, 3))
    x = torch.randn(5, 3, requires_grad=True)
    kept: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        frozen_linear(x, weight).sum().backward()
    assert weight.asked == 2
    assert kept == []


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_sixteen_bits_on_this_cpu(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    weight, x = torch.randn(9, 6).to(dtype), torch.randn(5, 6).to(dtype).requires_grad_()
    y = frozen_linear(x, weight)
    y.sum().backward()
    assert x.grad is not None
    assert y.dtype == x.grad.dtype == dtype
    exact = x.detach().double() @ weight.double().t()
    limit = 1.0 if matmul_dtype(dtype, x.device) == torch.float32 else 4.0
    assert (y.detach().double() - exact).norm() < limit * torch.finfo(dtype).eps * exact.norm()


def test_a_trained_weight_is_refused() -> None:
    with pytest.raises(AssertionError, match="no gradient"):
        frozen_linear(torch.zeros(1, 2), torch.zeros(3, 2, requires_grad=True))
