"""DPO by hand."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from luthier.objectives.dpo import dpo
from luthier.objectives.sums import sequence_sums
from luthier.objectives.terms import Terms

CHOSEN = [-0.5, -1.0, -0.25, -0.5, -0.75, -0.25, -0.5, -0.125, -0.125]  # nine tokens: -4
REJECTED = [-3.0]  # one token


def pair(
    chosen: list[float], rejected: list[float], reference: tuple[float, float], **given: Any
) -> tuple[Terms, Tensor]:
    logp_S = torch.tensor(chosen + rejected, requires_grad=True)
    sequence_S = torch.tensor([0] * len(chosen) + [1] * len(rejected))
    terms = dpo(
        logp_S,
        weight_S=torch.ones(len(logp_S)),
        sequence_S=sequence_S,
        reference_N=torch.tensor(reference, dtype=torch.float64),
        **{"beta": 0.5, **given},
    )
    terms.loss_sum.backward()
    assert logp_S.grad is not None
    return terms, logp_S.grad


def numbers(terms: Terms) -> dict[str, float]:
    return {name: float(part) for name, part in terms.metrics.items()}


def test_sigmoid_loss_metrics_and_gradient_by_hand() -> None:
    # Ratios: -4 + 6 = 2 and -3 + 1 = -2; rewards 1 and -1; margin 2.
    terms, grad_S = pair(CHOSEN, REJECTED, (-6.0, -1.0))
    assert math.isclose(terms.loss_sum.item(), math.log(1 + math.exp(-2)), rel_tol=1e-12)
    assert terms.units == 1.0
    assert numbers(terms) == {
        "rewards_chosen": 1.0,
        "rewards_rejected": -1.0,
        "rewards_margins": 2.0,
        "rewards_accuracy": 1.0,
        "logps_accuracy": 0.0,
        "logps_chosen": -4.0,
        "logps_rejected": -3.0,
    }
    pull = 0.5 / (1 + math.exp(2))  # beta * sigmoid(-margin)
    torch.testing.assert_close(grad_S, torch.tensor([-pull] * 9 + [pull]))


def test_label_smoothing_by_hand() -> None:
    terms, grad_S = pair(CHOSEN, REJECTED, (-6.0, -1.0), label_smoothing=0.25)
    right, wrong = math.log(1 + math.exp(-2)), math.log(1 + math.exp(2))
    assert math.isclose(terms.loss_sum.item(), 0.75 * right + 0.25 * wrong, rel_tol=1e-12)
    pull = 0.5 * (0.75 / (1 + math.exp(2)) - 0.25 / (1 + math.exp(-2)))
    torch.testing.assert_close(grad_S, torch.tensor([-pull] * 9 + [pull]))


def test_ipo_by_hand_on_whole_answers() -> None:
    # h = 2 - (-2) = 4, wanted 1 / (2 * 0.5) = 1: (4 - 1)^2; lengths 9 and 1 change nothing.
    terms, grad_S = pair(CHOSEN, REJECTED, (-6.0, -1.0), loss_type="ipo")
    assert terms.loss_sum.item() == 9.0
    assert grad_S.tolist() == [6.0] * 9 + [-6.0]  # too far apart already: pushed back together
    assert numbers(terms)["rewards_margins"] == 2.0


def test_ipo_is_at_rest_at_the_margin_it_asks_for() -> None:
    terms, grad_S = pair([-4.0], [-3.0], (-6.0, -4.0), loss_type="ipo")
    assert terms.loss_sum.item() == 0.0
    assert grad_S.abs().max() == 0.0


@pytest.mark.parametrize("loss_type", ["sigmoid", "ipo"])
def test_swapping_the_answers_negates_the_margin_to_the_bit(loss_type: str) -> None:
    torch.manual_seed(0)
    chosen, rejected = (-torch.rand(9) * 3).tolist(), (-torch.rand(1) * 3).tolist()
    forth, _ = pair(chosen, rejected, (-6.37, -1.91), beta=0.1, loss_type=loss_type)
    back, _ = pair(rejected, chosen, (-1.91, -6.37), beta=0.1, loss_type=loss_type)
    assert numbers(forth)["rewards_margins"] == -numbers(back)["rewards_margins"] != 0.0
    assert numbers(forth)["rewards_accuracy"] + numbers(back)["rewards_accuracy"] == 1.0


def test_an_identical_pair_has_loss_ln2_and_no_gradient_in_the_model() -> None:
    shared = torch.tensor([-1.3, -0.7, -2.1], requires_grad=True)  # both answers read one prefix
    terms = dpo(
        torch.cat([shared, shared]),
        weight_S=torch.ones(6),
        sequence_S=torch.tensor([0, 0, 0, 1, 1, 1]),
        reference_N=torch.tensor([-5.0, -5.0], dtype=torch.float64),
        beta=0.1,
    )
    terms.loss_sum.backward()
    assert shared.grad is not None
    assert shared.grad.tolist() == [0.0, 0.0, 0.0]
    assert math.isclose(terms.loss_sum.item(), math.log(2), rel_tol=1e-15)


def test_step_zero_is_ln2_in_spite_of_long_answers() -> None:
    torch.manual_seed(0)
    logp_S = -torch.rand(4000) * 5
    sequence_S = torch.arange(4000) % 4
    weight_S = torch.ones(4000)
    order = torch.randperm(4000)  # the reference saw the targets in another order
    reference_N = sequence_sums(logp_S[order], weight_S[order], sequence_S[order], 4)
    terms = dpo(logp_S, weight_S=weight_S, sequence_S=sequence_S, reference_N=reference_N, beta=0.5)
    assert terms.units == 2.0
    assert abs(terms.loss_sum.item() / 2 - math.log(2)) < 1e-12


def test_pairs_add_up_and_targets_may_lie_anywhere() -> None:
    torch.manual_seed(1)
    logp_S, weight_S = -torch.rand(12), torch.rand(12)
    sequence_S = torch.tensor([0, 2, 1, 3, 0, 0, 3, 2, 1, 1, 2, 0])
    reference_N = -torch.rand(4, dtype=torch.float64)
    whole = dpo(logp_S, weight_S=weight_S, sequence_S=sequence_S, reference_N=reference_N, beta=0.3)
    parts = []
    for first in (0, 2):
        mine = (sequence_S // 2 == first // 2).nonzero()[:, 0]
        parts.append(
            dpo(
                logp_S[mine],
                weight_S=weight_S[mine],
                sequence_S=sequence_S[mine] - first,
                reference_N=reference_N[first : first + 2],
                beta=0.3,
            )
        )
    assert math.isclose(
        whole.loss_sum.item(), sum(part.loss_sum.item() for part in parts), rel_tol=1e-12
    )
    for name, value in numbers(whole).items():
        assert math.isclose(value, sum(numbers(part)[name] for part in parts), rel_tol=1e-12)


def test_gradients_by_finite_differences() -> None:
    torch.manual_seed(2)
    logp_S = (-torch.rand(6, dtype=torch.float64)).requires_grad_()
    for given in ({}, {"label_smoothing": 0.1}, {"loss_type": "ipo"}):
        options: dict[str, Any] = {
            "weight_S": torch.tensor([1.0, 0.5, 1.0, 0.0, 1.0, 1.0], dtype=torch.float64),
            "sequence_S": torch.tensor([0, 0, 1, 1, 2, 3]),
            "reference_N": -torch.rand(4, dtype=torch.float64),
            "beta": 0.4,
            **given,
        }
        assert torch.autograd.gradcheck(
            lambda x, options=options: dpo(x, **options).loss_sum, (logp_S,)
        )


def test_a_tie_is_half_a_pair_in_the_right_order() -> None:
    logp_S = torch.tensor([-2.0, -2.0, -1.0, -3.0])
    reference_N = torch.tensor([-2.0, -2.0 + 1e-7, -3.0, -1.0], dtype=torch.float64)
    terms = dpo(
        logp_S,
        weight_S=torch.ones(4),
        sequence_S=torch.arange(4),
        reference_N=reference_N,
        beta=0.1,
    )
    assert numbers(terms)["rewards_accuracy"] == 1.5
    assert numbers(terms)["logps_accuracy"] == 1.5
