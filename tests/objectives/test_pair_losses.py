"""Losses of pairs by hand, against an independent float64 form, and against TRL's own."""

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from luthier.objectives import pair_losses
from luthier.objectives.dpo import dpo
from luthier.objectives.reference_free import orpo, simpo
from luthier.objectives.terms import Terms

WEIGHT_S = torch.ones(9)
SEQUENCE_S = torch.tensor([0, 0, 0, 0, 1, 1, 2, 3, 3])  # answers of 4, 2, 1 and 2 tokens
LENGTHS = (4, 2, 1, 2)
REFERENCE_N = torch.tensor([-3.0, -1.5, -0.8, -2.2], dtype=torch.float64)
LOGP = [-0.5, -1.0, -0.25, -0.5, -0.75, -1.25, -0.5, -1.0, -2.0]


def sides(logp_S: Tensor) -> list[tuple[Tensor, ...]]:
    """Sums, means and log-ratios of chosen and rejected, written anew: one pair after the other."""
    sums = [sum(logp_S[at] for at in range(9) if SEQUENCE_S[at] == n) for n in range(4)]
    return [
        (
            sums[at], sums[at + 1], sums[at] / LENGTHS[at], sums[at + 1] / LENGTHS[at + 1],
            sums[at] - REFERENCE_N[at], sums[at + 1] - REFERENCE_N[at + 1],
        )
        for at in (0, 2)
    ]  # fmt: skip


def softplus(x: Tensor) -> Tensor:
    return (1 + x.exp()).log()


def independent(kind: str, logp_S: Tensor, beta: float, e: float, alpha: float) -> Tensor:
    """The loss of both pairs from its formula, in float64."""
    total = torch.zeros((), dtype=torch.float64)
    for pair, (_, _, mean_c, mean_r, ratio_c, ratio_r) in enumerate(sides(logp_S)):
        m = beta * (ratio_c - ratio_r)
        per_token = beta * (ratio_c / LENGTHS[2 * pair] - ratio_r / LENGTHS[2 * pair + 1])
        odds_c, odds_r = (p.exp() / (1 - p.exp()) for p in (mean_c, mean_r))
        simpo_m = beta * mean_c - beta * mean_r - 0.7
        total = total + {
            "sigmoid": lambda m=m: (1 - e) * softplus(-m) + e * softplus(m),
            "sigmoid_norm": lambda m=per_token: (1 - e) * softplus(-m) + e * softplus(m),
            "robust": lambda m=m: ((1 - e) * softplus(-m) - e * softplus(m)) / (1 - 2 * e),
            "hinge": lambda m=m: torch.clamp(1 - m, min=0),
            "ipo": lambda m=m: (m / beta - 1 / (2 * beta)) ** 2,
            "simpo": lambda m=simpo_m: (1 - e) * softplus(-m) + e * softplus(m),
            "orpo": lambda c=odds_c, r=odds_r: beta * -((c / r) / (1 + c / r)).log(),
        }[kind]()  # fmt: skip
        total = total - (1.0 if kind == "orpo" else alpha) * mean_c
    return total


def ours(kind: str, logp_S: Tensor, beta: float, e: float = 0.0, alpha: float = 0.0) -> Terms:
    common: dict[str, Any] = {"weight_S": WEIGHT_S, "sequence_S": SEQUENCE_S, "beta": beta}
    if kind == "orpo":
        return orpo(logp_S, num_sequences=4, **common)
    common |= {"label_smoothing": e, "sft_weight": alpha}
    if kind == "simpo":
        return simpo(logp_S, num_sequences=4, gamma=0.7, **common)
    return dpo(logp_S, reference_N=REFERENCE_N, loss_type=kind, **common)  # type: ignore[arg-type]


CASES = [
    ("sigmoid", 0.3, 0.0, 0.0), ("sigmoid", 0.3, 0.2, 0.0), ("sigmoid", 0.3, 0.0, 0.5),
    ("sigmoid_norm", 2.0, 0.1, 0.0), ("robust", 0.3, 0.2, 0.0), ("hinge", 0.3, 0.0, 0.0),
    ("hinge", 0.3, 0.0, 1.0), ("ipo", 0.3, 0.0, 0.0), ("simpo", 2.0, 0.0, 0.0),
    ("simpo", 2.0, 0.1, 0.3), ("orpo", 0.1, 0.0, 0.0),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "beta", "e", "alpha"), CASES)
def test_loss_and_gradient_are_those_of_the_formula_in_float64(kind, beta, e, alpha):
    mine = torch.tensor(LOGP, requires_grad=True)
    other = torch.tensor(LOGP, dtype=torch.float64, requires_grad=True)
    terms = ours(kind, mine, beta, e, alpha)
    expected = independent(kind, other, beta, e, alpha)
    terms.loss_sum.backward()
    expected.backward()
    assert terms.units == 2.0
    assert math.isclose(terms.loss_sum.item(), expected.item(), rel_tol=1e-9)
    assert mine.grad is not None
    assert other.grad is not None
    assert other.grad.abs().max() > 1e-3
    torch.testing.assert_close(mine.grad.double(), other.grad, rtol=1e-6, atol=1e-8)


def test_hinge_by_hand():
    # Rewards apart by 0.5 * 4 = 2: nothing is asked; by 0.5 * 1: half is.
    losses = pair_losses.hinge(torch.tensor([4.0, 1.0, -2.0]), 0.5)
    assert losses.tolist() == [0.0, 0.5, 2.0]


def test_robust_by_hand_is_right_on_average():
    # With a fifth of the pairs swapped, its mean is the loss of the pairs as they should be.
    margin = torch.tensor([3.0], dtype=torch.float64)
    mixed = 0.8 * pair_losses.robust(margin, 0.5, 0.2) + 0.2 * pair_losses.robust(-margin, 0.5, 0.2)
    assert math.isclose(mixed.item(), math.log(1 + math.exp(-1.5)), rel_tol=1e-12)
    alone = (0.8 * math.log(1 + math.exp(-1.5)) - 0.2 * math.log(1 + math.exp(1.5))) / 0.6
    assert math.isclose(pair_losses.robust(margin, 0.5, 0.2).item(), alone, rel_tol=1e-12)


def test_length_normalised_by_hand():
    # Log-ratios 4 and -2 over 4 tokens and 1: 1 - (-2) = 3 a token, times 0.5.
    terms = dpo(
        torch.tensor([-0.5, -0.5, -0.5, -0.5, -3.0]),
        weight_S=torch.ones(5),
        sequence_S=torch.tensor([0, 0, 0, 0, 1]),
        reference_N=torch.tensor([-6.0, -1.0], dtype=torch.float64),
        beta=0.5,
        loss_type="sigmoid_norm",
    )
    assert math.isclose(terms.loss_sum.item(), math.log(1 + math.exp(-1.5)), rel_tol=1e-12)
    assert float(terms.metrics["rewards_margins"]) == 1.5


def test_simpo_by_hand():
    # Means -0.5 and -2: beta 2 makes rewards -1 and -4, three apart where one is asked for.
    terms = simpo(
        torch.tensor([-0.25, -0.75, -2.0]),
        weight_S=torch.ones(3),
        sequence_S=torch.tensor([0, 0, 1]),
        num_sequences=2,
        beta=2.0,
        gamma=1.0,
    )
    assert math.isclose(terms.loss_sum.item(), math.log(1 + math.exp(-2)), rel_tol=1e-12)
    assert float(terms.metrics["rewards_chosen"]) == -1.0
    assert float(terms.metrics["rewards_margins"]) == 3.0


def test_orpo_by_hand():
    # Probabilities 1/2 and 1/4 a token: odds 1 and 1/3, ratio 3; log 2 for the answer itself.
    half, quarter = math.log(0.5), math.log(0.25)
    terms = orpo(
        torch.tensor([half, half, quarter], dtype=torch.float64),
        weight_S=torch.ones(3),
        sequence_S=torch.tensor([0, 0, 1]),
        num_sequences=2,
        beta=0.2,
    )
    assert math.isclose(terms.loss_sum.item(), math.log(2) + 0.2 * math.log(4 / 3), rel_tol=1e-9)


def test_sft_term_by_hand_is_per_token_of_the_chosen_answer():
    # DPO at the reference is ln 2; the chosen answer has 4 tokens of -0.5.
    terms = dpo(
        torch.tensor([-0.5, -0.5, -0.5, -0.5, -3.0]),
        weight_S=torch.ones(5),
        sequence_S=torch.tensor([0, 0, 0, 0, 1]),
        reference_N=torch.tensor([-2.0, -3.0], dtype=torch.float64),
        beta=0.5,
        sft_weight=2.0,
    )
    assert math.isclose(terms.loss_sum.item(), math.log(2) + 2 * 0.5, rel_tol=1e-12)


def test_orpo_stays_a_number_where_an_answer_is_certain():
    logp_S = torch.tensor([0.0, -1.0], requires_grad=True)
    terms = orpo(
        logp_S, weight_S=torch.ones(2), sequence_S=torch.arange(2), num_sequences=2, beta=0.1
    )
    terms.loss_sum.backward()
    assert math.isfinite(terms.loss_sum.item())
    assert logp_S.grad is not None
    assert logp_S.grad.isfinite().all()


def test_simpo_orpo_and_conservative_dpo_have_the_values_of_trl():
    cpo = pytest.importorskip("trl.experimental.cpo.cpo_trainer").CPOTrainer
    other = pytest.importorskip("trl.experimental.orpo.orpo_trainer").ORPOTrainer
    cpu = SimpleNamespace(device="cpu")
    logp_S = torch.tensor(LOGP, dtype=torch.float64)
    means = torch.stack([torch.stack(side[2:4]) for side in sides(logp_S)])
    theirs = SimpleNamespace(
        alpha=0.0,
        beta=2.0,
        simpo_gamma=0.7,
        label_smoothing=0.1,
        loss_type="simpo",
        accelerator=cpu,
    )
    losses, chosen, rejected = cpo.cpo_loss(theirs, means[:, 0], means[:, 1])
    mine = ours("simpo", logp_S, 2.0, 0.1)
    assert math.isclose(mine.loss_sum.item(), losses.sum().item(), rel_tol=1e-12)
    assert math.isclose(float(mine.metrics["rewards_chosen"]), chosen.sum().item(), rel_tol=1e-12)
    assert math.isclose(
        float(mine.metrics["rewards_rejected"]), rejected.sum().item(), rel_tol=1e-12
    )
    odds, *_ = other.odds_ratio_loss(
        SimpleNamespace(beta=0.1, accelerator=cpu), means[:, 0], means[:, 1]
    )
    answers = -means[:, 0].sum() - odds.sum()  # in float32, as TRL computes it
    assert math.isclose(ours("orpo", logp_S, 0.1).loss_sum.item(), answers.item(), rel_tol=1e-6)
    # Without a reference TRL's preference loss is that of DPO against one that says nothing.
    theirs.loss_type, theirs.beta, theirs.label_smoothing = "sigmoid", 0.3, 0.2
    sums = torch.stack([torch.stack(side[:2]) for side in sides(logp_S)])
    losses, *_ = cpo.cpo_loss(theirs, sums[:, 0], sums[:, 1])
    mine = dpo(
        logp_S,
        weight_S=WEIGHT_S,
        sequence_S=SEQUENCE_S,
        reference_N=torch.zeros(4, dtype=torch.float64),
        beta=0.3,
        label_smoothing=0.2,
    )
    assert math.isclose(mine.loss_sum.item(), losses.sum().item(), rel_tol=1e-12)
