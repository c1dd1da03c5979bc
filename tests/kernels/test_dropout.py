"""Dropout masks: what they depend on, what they do not, and how random they are."""

import pytest
import torch
from torch import Tensor

from luthier.kernels.dropout import TokenKeys, dropout_plain, kept, module_number, upscale


def keys(sample_T: Tensor, position_T: Tensor, *, seed: int = 3, step: int = 4) -> TokenKeys:
    made = TokenKeys()
    made.set(seed=seed, step=step, sample_T=sample_T, position_T=position_T)
    return made


def mask(
    rows: int = 64,
    columns: int = 64,
    rate: float = 0.5,
    *,
    seed: int = 3,
    step: int = 4,
    module: int = 7,
) -> Tensor:
    made = keys(torch.zeros(rows, dtype=torch.int64), torch.arange(rows), seed=seed, step=step)
    return ~kept(made.of_module(module), columns, rate)


def test_order_and_cut_of_the_tokens_move_no_mask() -> None:
    sample_T, position_T = torch.tensor([5, 5, 5, 9, 9]), torch.tensor([0, 1, 2, 0, 1])
    whole = ~kept(keys(sample_T, position_T).of_module(1), 33, 0.5)
    order = torch.tensor([3, 0, 4, 2, 1])
    moved = ~kept(keys(sample_T[order], position_T[order]).of_module(1), 33, 0.5)
    assert torch.equal(moved, whole[order])
    alone = ~kept(keys(sample_T[3:], position_T[3:]).of_module(1), 33, 0.5)
    assert torch.equal(alone, whole[3:])


def test_everything_named_moves_the_mask() -> None:
    masks = [mask(), mask(seed=4), mask(step=5), mask(module=8), mask(seed=4, step=3)]
    sample_T = torch.ones(64, dtype=torch.int64)
    masks.append(~kept(keys(sample_T, torch.arange(64)).of_module(7), 64, 0.5))
    masks.append(~kept(keys(0 * sample_T, torch.arange(64) + 64).of_module(7), 64, 0.5))
    for number, one in enumerate(masks):
        for other in masks[:number]:
            agreeing = (one == other).float().mean().item()
            assert abs(agreeing - 0.5) < 0.04  # 64 * 64 coins: 5 standard deviations


def mixed(number: int) -> int:
    """SplitMix64 in whole numbers, as published: the plain twin of what the tensors do."""
    number = (number + 0x9E3779B97F4A7C15) % 2**64
    number = ((number ^ (number >> 30)) * 0xBF58476D1CE4E5B9) % 2**64
    number = ((number ^ (number >> 27)) * 0x94D049BB133111EB) % 2**64
    return number ^ (number >> 31)


@pytest.mark.parametrize("seed", [1, -1, 2**64 - 2])
def test_the_bits_are_those_of_the_definition_on_every_machine(seed: int) -> None:
    module, step, sample, position, rate = module_number("layers.0.q_proj"), 7, 11, 2, 0.3
    made = keys(torch.tensor([sample]), torch.tensor([position]), seed=seed, step=step)
    expected = []
    token = mixed(mixed(mixed(mixed(seed) + step) + sample) + position)
    for word in range(1, 17):
        number = mixed(mixed(token + module) + word * 0x9E3779B97F4A7C15)
        lanes = [(number >> 16 * lane) % 65536 for lane in range(4)]
        expected += [(lane ^ 0x8000) < round(rate * 65536) for lane in lanes]
    assert (~kept(made.of_module(module), 64, rate))[0].tolist() == expected


def test_the_bits_of_one_token_stay() -> None:
    made = keys(torch.tensor([11]), torch.tensor([2]), seed=1, step=1)
    drop = ~kept(made.of_module(module_number("layers.0.q_proj")), 24, 0.5)
    assert "".join("01"[bit] for bit in drop[0].tolist()) == "010110010111011010001101"


@pytest.mark.parametrize("rate", [0.0, 0.05, 0.1, 0.5, 0.9])
def test_the_rate_is_the_rate(rate: float) -> None:
    drop = mask(512, 512, rate)
    deviation = (rate * (1 - rate) / drop.numel()) ** 0.5
    assert abs(drop.float().mean().item() - rate) <= 5 * deviation + 1 / 65536
    assert abs(upscale(rate) * (1 - rate) - 1) < 1e-4


@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_neighbours_are_independent(rate: float) -> None:
    drop = mask(512, 512, rate).double() - rate
    variance = rate * (1 - rate)
    limit = 5 / 512  # five standard deviations of a correlation over 512 * 512 elements
    for rows, columns in [(0, 1), (0, 2), (0, 3), (0, 4), (1, 0), (1, 1), (2, 0), (7, 5), (0, 256)]:
        moved = drop.roll((rows, columns), (0, 1))
        assert abs((drop * moved).mean().item() / variance) < limit
    for axis in (0, 1):  # no row and no column is dropped more than others
        spread = drop.sum(axis).var().item() / (512 * variance)
        assert 0.7 < spread < 1.3


def test_four_bits_together_are_uniform() -> None:
    word = (mask(512, 512, 0.5).view(512, 128, 4) * torch.tensor([1, 2, 4, 8])).sum(-1)
    counts = word.flatten().bincount(minlength=16).double()
    expected = word.numel() / 16
    assert ((counts - expected) ** 2 / expected).sum().item() < 45  # chi-square, 15 degrees: p 1e-4


def test_any_number_of_columns() -> None:
    whole = mask(4, 64)
    for columns in (1, 3, 4, 5, 63):
        assert torch.equal(mask(4, columns), whole[:, :columns])


def test_the_kept_are_scaled_up_so_that_the_mean_stays() -> None:
    x_TK = torch.ones(512, 512)
    key_T = keys(torch.zeros(512, dtype=torch.int64), torch.arange(512)).of_module(0)
    out = dropout_plain(x_TK, key_T, 0.25)
    assert out.unique().tolist() == pytest.approx([0.0, 4 / 3])
    assert abs(out.mean().item() - 1) < 0.01


def test_a_rate_near_one_keeps_something() -> None:
    assert upscale(0.999999) == 65536.0


def test_a_forward_pass_without_tokens_is_noticed() -> None:
    made = keys(torch.zeros(1), torch.zeros(1))
    made.clear()
    with pytest.raises(AssertionError, match=r"TokenKeys\.set"):
        made.of_module(0)
