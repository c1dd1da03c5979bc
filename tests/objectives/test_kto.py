"""KTO by hand, against an independent float64 form."""

import math

import torch

from luthier.objectives.kto import kto

WEIGHT_S = torch.ones(6)
SEQUENCE_S = torch.tensor([0, 0, 1, 2, 2, 2])
REFERENCE_N = torch.tensor([-3.0, -1.0, -2.5], dtype=torch.float64)
WANTED_N = torch.tensor([True, False, True])
LOGP = [-0.5, -1.5, -2.0, -0.5, -1.0, -1.5]


def test_kto_by_hand():
    # Log-ratios 1, -1, -0.5; divergence 0.5; beta 2: gains 1 and -2 where wanted, -3 where not.
    terms = kto(
        torch.tensor(LOGP),
        weight_S=WEIGHT_S,
        sequence_S=SEQUENCE_S,
        reference_N=REFERENCE_N,
        wanted_N=WANTED_N,
        kl=0.5,
        beta=2.0,
        wanted_share=2 / 3,
    )

    def off(x: float) -> float:
        return 1 / (1 + math.exp(x))

    assert math.isclose(terms.loss_sum.item(), off(1) + off(3) + off(-2), rel_tol=1e-12)
    assert terms.units == 3.0
    means = {name: float(value) / 3 for name, value in terms.metrics.items()}
    assert math.isclose(means["rewards_chosen"], (2 - 1) / 2)
    assert math.isclose(means["rewards_rejected"], -2.0)
    assert math.isclose(means["rewards_margins"], 2.5)
    assert math.isclose(means["rewards_accuracy"], 2 / 3)
    assert math.isclose(means["kl"], 0.5)


def test_loss_and_gradient_are_those_of_the_formula_in_float64():
    mine = torch.tensor(LOGP, requires_grad=True)
    other = torch.tensor(LOGP, dtype=torch.float64, requires_grad=True)
    kto(
        mine,
        weight_S=WEIGHT_S,
        sequence_S=SEQUENCE_S,
        reference_N=REFERENCE_N,
        wanted_N=WANTED_N,
        kl=0.2,
        beta=0.7,
        desirable_weight=1.3,
    ).loss_sum.backward()
    total = torch.zeros((), dtype=torch.float64)
    for row, tokens in enumerate(([0, 1], [2], [3, 4, 5])):
        ratio = sum(other[at] for at in tokens) - REFERENCE_N[row]
        if WANTED_N[row]:
            total = total + 1.3 * (1 - 1 / (1 + (-0.7 * (ratio - 0.2)).exp()))
        else:
            total = total + (1 - 1 / (1 + (-0.7 * (0.2 - ratio)).exp()))
    total.backward()
    assert mine.grad is not None
    assert other.grad is not None
    torch.testing.assert_close(mine.grad.double(), other.grad, rtol=1e-6, atol=1e-8)


def test_a_model_that_is_its_own_reference_is_undecided():
    logp_S = torch.tensor([-1.0, -2.0])
    terms = kto(
        logp_S,
        weight_S=torch.ones(2),
        sequence_S=torch.arange(2),
        reference_N=logp_S.double(),
        wanted_N=torch.tensor([True, False]),
        kl=0.0,
        beta=0.1,
    )
    assert terms.loss_sum.item() == 1.0
    assert float(terms.metrics["rewards_accuracy"]) == 1.0  # of two: a half each


def test_a_step_without_one_label_has_a_mean_of_zero_for_it():
    terms = kto(
        torch.tensor([-1.0]),
        weight_S=torch.ones(1),
        sequence_S=torch.zeros(1, dtype=torch.int64),
        reference_N=torch.tensor([-2.0], dtype=torch.float64),
        wanted_N=torch.tensor([True]),
        kl=0.0,
        beta=1.0,
        wanted_share=1.0,
    )
    assert float(terms.metrics["rewards_rejected"]) == 0.0
    assert float(terms.metrics["rewards_chosen"]) == 1.0
