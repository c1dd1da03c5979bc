"""Parity of the Triton forms with their twins; `test_triton` runs this in Triton's interpreter.

Whether kernels are interpreted is fixed when Triton is imported, so this has a process of its own.
"""

import pytest
import torch
from torch import Tensor

from luthier.kernels.pointwise import gated_plain, rms_norm_plain
from luthier.kernels.triton.gated import gated
from luthier.kernels.triton.norm import norm_of_frozen

# The exponential of a large number is infinite, and one over that 0, as it is on the GPU.
pytestmark = pytest.mark.filterwarnings("ignore:overflow encountered in exp")

SHAPES = [(1, 1), (3, 7), (1, 8192), (0, 16), (2, 3, 1000)]


def values(shape: tuple[int, ...], dtype: torch.dtype, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator).mul(3).to(dtype).requires_grad_()


def near(mine: Tensor, exact: Tensor, dtype: torch.dtype) -> None:
    assert mine.dtype == dtype
    assert mine.shape == exact.shape
    rounding = 6 * torch.finfo(dtype).eps
    scale = exact.abs().max().item() if exact.numel() else 0.0
    torch.testing.assert_close(mine.double(), exact, rtol=rounding, atol=rounding * scale)


def against_float64(mine: Tensor, exact: Tensor, leaves: list[Tensor], wide: list[Tensor]) -> None:
    dtype = leaves[0].dtype
    near(mine, exact, dtype)
    grad = (torch.arange(mine.numel()) % 7 - 2).view(mine.shape)
    mine.backward(grad.to(dtype))
    exact.backward(grad.double())
    for leaf, other in zip(leaves, wide, strict=True):
        assert leaf.grad is not None
        assert other.grad is not None
        near(leaf.grad, other.grad, dtype)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
@pytest.mark.parametrize("silu", [True, False])
def test_gates_equal_the_twin_in_value_and_gradient(
    silu: bool, dtype: torch.dtype, shape: tuple[int, ...]
) -> None:
    leaves = [values(shape, dtype, seed) for seed in (1, 2)]
    wide = [leaf.detach().double().requires_grad_() for leaf in leaves]
    plain = gated_plain(wide[0], wide[1], "silu" if silu else "gelu_tanh")
    against_float64(gated(leaves[0], leaves[1], silu=silu), plain, leaves, wide)


# Of a row of one column the gradient is 0 but for eps: there is nothing but rounding to compare.
@pytest.mark.parametrize("shape", [(1, 2), *SHAPES[1:]], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
@pytest.mark.parametrize("offset", [0.0, 1.0])
def test_norms_equal_the_twin_in_value_and_gradient(
    offset: float, dtype: torch.dtype, shape: tuple[int, ...]
) -> None:
    x, weight = values(shape, dtype, 3), values(shape[-1:], dtype, 4).detach()
    wide = x.detach().double().requires_grad_()
    plain = rms_norm_plain(wide, weight.double(), 1e-5, offset=offset)
    against_float64(norm_of_frozen(x, weight, 1e-5, offset=offset), plain, [x], [wide])
