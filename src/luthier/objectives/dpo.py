"""Direct Preference Optimisation: prefer the chosen answer over the rejected one.

S: supervised targets.  N = 2P: sequences, chosen and rejected in turn.  P: pairs.

Sources: Rafailov et al. 2023, https://arxiv.org/abs/2305.18290, eq. 7; label smoothing: Mitchell
2023, https://ericmitchell.ai/cdpo.pdf, eq. 3; IPO: Azar et al. 2023,
https://arxiv.org/abs/2310.12036, eq. 17, on the log-probability of the whole answer as it stands
there (TRL divides it by the answer's length).
"""

from typing import Literal

import torch.nn.functional as F
from torch import Tensor

from luthier.objectives.terms import Terms

TIE = 1e-5
"""Nats (times beta) below which two rewards are the same: float32 sums differ by as much."""


def dpo(
    logp_S: Tensor,
    *,
    weight_S: Tensor,
    sequence_S: Tensor,
    reference_N: Tensor,
    beta: float,
    loss_type: Literal["sigmoid", "ipo"] = "sigmoid",
    label_smoothing: float = 0.0,
) -> Terms:
    """Preference loss of P pairs, summed and not averaged.

    Args:
        logp_S: Log-probability of each target under the policy, nats.
        weight_S: Loss weight of each target, >= 0.
        sequence_S: Which sequence a target belongs to, int64; pair p is sequences 2p and 2p + 1.
        reference_N: Summed log-probability of each sequence under the reference, from
            `sequence_sums` and kept in float64; no gradient.
        beta: Pull towards the reference, > 0; the paper uses 0.1 to 0.5.  In IPO it is tau.
        loss_type: `sigmoid` is DPO; `ipo` asks for a margin of 1 / (2 beta) and not for more.
        label_smoothing: Share of the pairs whose order is taken to be wrong, 0 to below 0.5;
            `sigmoid` only.

    Returns:
        The summed loss, P, and sums of both implicit rewards, their margin, pairs ranked right,
        both log-probabilities, and pairs
        whose chosen answer is the likelier one whatever the reference says.
    """
    policy_N = sequence_sums(logp_S, weight_S, sequence_S, len(reference_N))
    ratio_N = policy_N - reference_N
    margin_P = ratio_N[0::2] - ratio_N[1::2]
    loss = (
        _ipo(margin_P, beta) if loss_type == "ipo" else _sigmoid(beta * margin_P, label_smoothing)
    )
    return Terms(loss, float(len(margin_P)), _metrics(policy_N.detach(), beta * ratio_N.detach()))


def sequence_sums(
    logp_S: Tensor, weight_S: Tensor, sequence_S: Tensor, num_sequences: int
) -> Tensor:
    """Weighted log-probability of each sequence, nats, shape (N,): what the reference is too.

    Summed in float64: a float32 sum of 300 nats is only good to 3e-5.
    """
    weighted_S = weight_S.double() * logp_S.double()
    return weighted_S.new_zeros(num_sequences).index_add(0, sequence_S, weighted_S)


def _sigmoid(margin_P: Tensor, label_smoothing: float) -> Tensor:
    if label_smoothing == 0.0:
        return -F.logsigmoid(margin_P).sum()
    right, wrong = F.logsigmoid(margin_P).sum(), F.logsigmoid(-margin_P).sum()
    return -(1.0 - label_smoothing) * right - label_smoothing * wrong


def _ipo(margin_P: Tensor, beta: float) -> Tensor:
    return (margin_P - 1.0 / (2.0 * beta)).square().sum()


def _metrics(policy_N: Tensor, reward_N: Tensor) -> dict[str, Tensor]:
    chosen_P, rejected_P = reward_N[0::2], reward_N[1::2]
    margin_P = chosen_P - rejected_P
    return {
        "rewards_chosen": chosen_P.sum(),
        "rewards_rejected": rejected_P.sum(),
        "rewards_margins": margin_P.sum(),
        "rewards_accuracy": _ranked_right(margin_P),
        "logps_chosen": policy_N[0::2].sum(),
        "logps_rejected": policy_N[1::2].sum(),
        "logps_accuracy": _ranked_right(policy_N[0::2] - policy_N[1::2]),
    }


def _ranked_right(margin_P: Tensor) -> Tensor:
    """Pairs in the right order; a tie counts half, so that a model that is its own reference has
    an accuracy of one half and not one of rounding noise."""
    tied_P = margin_P.abs() < TIE
    return (0.5 * tied_P + ((margin_P > 0) & ~tied_P)).sum()
