"""The head's log-probabilities against the plain twin: value and gradient."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from luthier.kernels.cpu import matmul_dtype
from luthier.kernels.head_logprob import (
    default_chunk_rows,
    head_logprob,
    head_logprob_plain,
)
from luthier.kernels.planned import planning_for_cuda

ROWS, WIDTH, VOCABULARY = 13, 8, 29
KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "softcap": {"softcap": 3.0},
    "scale": {"scale": 0.25},
    "bias": {"bias": True},
    "all": {"softcap": 2.0, "scale": 1.7, "bias": True},
}


def case(dtype: torch.dtype = torch.float64, rows: int = ROWS) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(rows)
    hidden_SD = torch.randn(rows, WIDTH, dtype=torch.float64).to(dtype)
    weight_VD = torch.randn(VOCABULARY, WIDTH, dtype=torch.float64).to(dtype)
    return hidden_SD, weight_VD, torch.randint(0, VOCABULARY, (rows,))


def options(kind: str, dtype: torch.dtype = torch.float64) -> dict[str, Any]:
    given = dict(KINDS[kind])
    if given.pop("bias", False):
        given["bias_V"] = torch.linspace(-1, 1, VOCABULARY, dtype=dtype)
    return given


def gradients(
    function: Any, inputs: list[Tensor], target_S: Tensor, **given: Any
) -> tuple[Tensor, list[Tensor]]:
    """Value and gradient under weights of both signs, as DPO has them."""
    leaves = [tensor.detach().requires_grad_() for tensor in inputs]
    if len(leaves) == 3:
        given["bias_V"] = leaves[2]
    logp_S, _ = function(leaves[0], leaves[1], target_S, **given)
    (logp_S * torch.linspace(-1, 2, len(logp_S), dtype=logp_S.dtype)).sum().backward()
    return logp_S.detach(), [leaf.grad for leaf in leaves if leaf.grad is not None]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("chunk_rows", [1, 5, 64])
def test_frozen_head_equals_the_plain_twin(kind: str, chunk_rows: int) -> None:
    hidden_SD, weight_VD, target_S = case()
    results = []
    for function, extra in ((head_logprob, {"chunk_rows": chunk_rows}), (head_logprob_plain, {})):
        leaf = hidden_SD.clone().requires_grad_()
        logp_S, top1_S = function(leaf, weight_VD, target_S, **options(kind), **extra)
        (logp_S * torch.linspace(-1, 2, ROWS, dtype=torch.float64)).sum().backward()
        assert leaf.grad is not None
        results.append((logp_S.detach(), top1_S, leaf.grad))
    for ours, plain in zip(*results, strict=True):
        torch.testing.assert_close(ours, plain, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("chunk_rows", [1, 5, 64])
def test_trained_head_equals_the_plain_twin(kind: str, chunk_rows: int) -> None:
    hidden_SD, weight_VD, target_S = case()
    given = options(kind)
    inputs = [hidden_SD, weight_VD, *([given.pop("bias_V")] if "bias_V" in given else [])]
    ours = gradients(head_logprob, inputs, target_S, chunk_rows=chunk_rows, **given)
    plain = gradients(head_logprob_plain, inputs, target_S, **given)
    torch.testing.assert_close(ours, plain, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("trained", [False, True])
def test_gradcheck(kind: str, trained: bool) -> None:
    hidden_SD, weight_VD, target_S = case(rows=4)
    hidden_SD.requires_grad_()
    weight_VD.requires_grad_(trained)
    given = options(kind)

    def logp(hidden_SD: Tensor, weight_VD: Tensor) -> Tensor:
        return head_logprob(hidden_SD, weight_VD, target_S, chunk_rows=3, **given)[0]

    assert torch.autograd.gradcheck(logp, (hidden_SD, weight_VD))


@pytest.mark.parametrize("trained", [False, True])
@pytest.mark.parametrize("kind", ["plain", "all"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_lower_precision_stays_near_float64(dtype: torch.dtype, kind: str, trained: bool) -> None:
    hidden_SD, weight_VD, target_S = case(dtype)
    logp_S, (grad_SD, *grad_VD) = _run(hidden_SD, weight_VD, target_S, kind, trained)
    expected_S, (expected_SD, *expected_VD) = _run(
        hidden_SD.double(), weight_VD.double(), target_S, kind, trained
    )
    assert logp_S.dtype == torch.float32
    assert grad_SD.dtype == dtype
    error = {torch.float32: 1e-6, torch.bfloat16: 4e-3, torch.float16: 6e-4}[dtype]
    # Emulated products are made in float32 from exact 16-bit inputs: then values lose nothing.
    exact = matmul_dtype(dtype, hidden_SD.device) == torch.float32
    close = 2e-6 if exact else 3e-2
    torch.testing.assert_close(logp_S.double(), expected_S, rtol=close, atol=close)
    for ours, expected in zip((grad_SD, *grad_VD), (expected_SD, *expected_VD), strict=True):
        assert (ours.double() - expected).norm() < error * expected.norm()


def _run(
    hidden_SD: Tensor, weight_VD: Tensor, target_S: Tensor, kind: str, trained: bool
) -> tuple[Tensor, list[Tensor]]:
    hidden_SD = hidden_SD.clone().requires_grad_()
    weight_VD = weight_VD.clone().requires_grad_(trained)
    given = options(kind, torch.float16)
    if "bias_V" in given:
        given["bias_V"] = given["bias_V"].bfloat16().to(hidden_SD.dtype)  # the same in every dtype
    logp_S, _ = head_logprob(hidden_SD, weight_VD, target_S, chunk_rows=4, **given)
    (logp_S * torch.linspace(-1, 2, ROWS, dtype=logp_S.dtype)).sum().backward()
    return logp_S.detach(), [leaf.grad for leaf in (hidden_SD, weight_VD) if leaf.grad is not None]


def test_a_tied_embedding_receives_both_gradients() -> None:
    _, embedding_VD, target_S = case()
    ids_S = torch.arange(ROWS) % VOCABULARY
    grads = []
    for function in (head_logprob, head_logprob_plain):
        leaf = embedding_VD.clone().requires_grad_()
        logp_S, _ = function(leaf.index_select(0, ids_S).tanh(), leaf, target_S)
        logp_S.sum().backward()
        grads.append(leaf.grad)
    torch.testing.assert_close(grads[0], grads[1], rtol=1e-12, atol=1e-12)


def test_the_cut_into_chunks_moves_no_bit_of_the_value() -> None:
    hidden_SD, weight_VD, target_S = case(torch.float32, rows=64)
    whole_S, top1_S = head_logprob(hidden_SD, weight_VD, target_S, chunk_rows=64)
    cut_S, cut_top1_S = head_logprob(hidden_SD, weight_VD, target_S, chunk_rows=16)
    torch.testing.assert_close(whole_S, cut_S, rtol=1e-6, atol=1e-6)
    assert torch.equal(top1_S, cut_top1_S)


@pytest.mark.parametrize("trained", [False, True])
def test_a_certain_token_keeps_every_digit(trained: bool) -> None:
    weight_VD = (torch.eye(4) * 3 + 5).requires_grad_(trained)
    hidden_SD = torch.tensor([[7.0, 0.0, 0.0, 0.0]]).requires_grad_()
    logp_S, top1_S = head_logprob(hidden_SD, weight_VD, torch.tensor([0]))
    logp_S.sum().backward()
    exact_SD = hidden_SD.detach().double().requires_grad_()
    exact_S, _ = head_logprob_plain(exact_SD, weight_VD.detach().double(), torch.tensor([0]))
    exact_S.sum().backward()
    assert bool(top1_S.all())
    assert exact_S.item() > -3e-9  # 1 - 3e-9 is 1 in float32
    torch.testing.assert_close(logp_S.double(), exact_S, rtol=1e-5, atol=0)
    assert hidden_SD.grad is not None
    assert exact_SD.grad is not None
    torch.testing.assert_close(hidden_SD.grad.double(), exact_SD.grad, rtol=1e-5, atol=1e-16)


def test_large_logits_neither_overflow_nor_vanish() -> None:
    weight_VD = torch.tensor([[400.0], [-400.0]])
    logp_S, _ = head_logprob(torch.tensor([[1.0], [1.0]]), weight_VD, torch.tensor([0, 1]))
    assert logp_S.tolist() == [0.0, -800.0]


def test_no_rows_give_no_values() -> None:
    hidden_SD = torch.zeros(0, WIDTH, requires_grad=True)
    logp_S, top1_S = head_logprob(
        hidden_SD, torch.zeros(5, WIDTH), torch.zeros(0, dtype=torch.int64)
    )
    logp_S.sum().backward()
    assert logp_S.shape == top1_S.shape == (0,)
    assert hidden_SD.grad is not None


@pytest.mark.parametrize("shape", [(WIDTH, ROWS), (ROWS, 2 * WIDTH)])
def test_strided_hidden_states_are_read_right(shape: tuple[int, int]) -> None:
    _, weight_VD, target_S = case(torch.float32)
    base = torch.randn(shape)
    hidden_SD = base.t() if shape[0] == WIDTH else base[:, ::2]
    ours = gradients(head_logprob, [hidden_SD, weight_VD], target_S)
    plain = gradients(head_logprob_plain, [hidden_SD, weight_VD], target_S)
    torch.testing.assert_close(ours, plain, rtol=1e-5, atol=1e-5)


def test_without_gradient_nothing_is_kept() -> None:
    hidden_SD, weight_VD, target_S = case(torch.float32)
    hidden_SD.requires_grad_()
    weight_VD.requires_grad_()
    with torch.no_grad():
        logp_S, _ = head_logprob(hidden_SD, weight_VD, target_S)
    assert logp_S.grad_fn is None


def test_a_frozen_head_keeps_one_vector_a_row_and_never_all_logits() -> None:
    hidden_SD = torch.randn(40, 16, requires_grad=True)
    weight_VD = torch.randn(1000, 16)
    kept: list[Tensor] = []
    largest = _LargestTensor()
    with (
        torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t),
        largest,
    ):
        head_logprob(hidden_SD, weight_VD, torch.zeros(40, dtype=torch.int64), chunk_rows=8)
    assert [tensor.shape for tensor in kept] == [(40, 16)]
    assert largest.numel == 1000 * 16  # the weight's own view; a chunk of logits is half of it


class _LargestTensor(torch.utils._python_dispatch.TorchDispatchMode):
    """Notes the largest tensor that any operation returns."""

    numel = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if isinstance(out, Tensor):
            self.numel = max(self.numel, out.numel())
        return out


def test_chunk_rows_follow_the_byte_budget() -> None:
    hidden_SD = torch.zeros(1, 4)
    assert default_chunk_rows(hidden_SD, 32_000, capped=False) == 524  # 64 MiB / (32,000 * 4 bytes)
    assert default_chunk_rows(hidden_SD, 32_000, capped=True) == 262
    assert default_chunk_rows(hidden_SD, 256_000, capped=False) == 128


def test_the_factor_of_the_loss_is_not_rounded_with_the_frozen_heads_gradient() -> None:
    """One third in bfloat16 is 0.13 % too large, for every row alike: an error of the whole."""
    hidden_SD, weight_VD, target_S = case(torch.bfloat16, rows=64)
    found = []
    for factor in (1.0, 1 / 3):
        leaf = hidden_SD.detach().requires_grad_()
        (head_logprob(leaf, weight_VD, target_S)[0] * factor).sum().backward()
        assert leaf.grad is not None
        found.append(leaf.grad.double())
    share = float((found[1] * found[0]).sum() / found[0].square().sum())
    assert abs(share * 3 - 1) < 2e-4


class _Launches(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        self.count += 1
        if func.name() == "aten::mm.dtype":  # fake CPU tensors have no such product
            return args[0].new_empty((len(args[0]), args[1].shape[1]), dtype=args[2])
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("trained", [True, False])
def test_on_cuda_a_wide_head_is_cast_once_and_not_in_blocks(trained: bool) -> None:
    with planning_for_cuda((9, 0)), FakeTensorMode():
        hidden_SD = torch.empty(512, 4096, dtype=torch.bfloat16, requires_grad=True)
        weight_VD = torch.empty(151_936, 4096, requires_grad=trained)
        target_S = torch.zeros(512, dtype=torch.int64)
        with _Launches() as launches:
            logp_S, _ = head_logprob(hidden_SD, weight_VD, target_S)
            logp_S.sum().backward()
    assert launches.count < 500
