"""KTO: answers that are wanted become likelier, others less likely, each judged by itself.

S: supervised targets.  N: sequences, one for each row.
"""

import torch
from torch import Tensor

from luthier.objectives.sums import TIE, sequence_sums
from luthier.objectives.terms import Terms


def kto(
    logp_S: Tensor,
    *,
    weight_S: Tensor,
    sequence_S: Tensor,
    reference_N: Tensor,
    wanted_N: Tensor,
    kl: float,
    beta: float,
    desirable_weight: float = 1.0,
    wanted_share: float = 0.5,
) -> Terms:
    """1 - sigmoid of what an answer is worth against the divergence, summed over N rows.

    Args:
        logp_S: Log-probability of each target under the policy, nats.
        weight_S: Loss weight of each target, >= 0.
        sequence_S: Which sequence a target belongs to, int64.
        reference_N: Summed log-probability of each sequence under the reference, float64.
        wanted_N: Whether each answer is wanted, bool.
        kl: Divergence from the reference over the step, nats, >= 0, without gradient: z_0 in the
            paper, the mean log-ratio of answers behind prompts that they do not belong to.
        beta: Pull towards the reference, > 0; the paper uses 0.1.
        desirable_weight: Weight of the wanted answers, > 0; the others have 1.
        wanted_share: Share of the step's rows that are wanted, 0 to 1: what the two mean rewards
            are taken over.

    Returns:
        The summed loss, N, and sums over the same rows of both mean rewards and their margin, of
        the divergence, of rows on the right side of it, and of log-probabilities.

    Source: Ethayarajh et al. 2024, https://arxiv.org/abs/2402.01306, eq. 7 and 8.
    """
    policy_N = sequence_sums(logp_S, weight_S, sequence_S, len(reference_N))
    gain_N = policy_N - reference_N - kl
    sign_N = torch.where(wanted_N, 1.0, -1.0).to(gain_N)
    lambda_N = torch.where(wanted_N, desirable_weight, 1.0).to(gain_N)
    loss = (lambda_N * torch.sigmoid(-beta * sign_N * gain_N)).sum()  # 1 - sigmoid(x)
    right_N = (sign_N * gain_N).detach()
    tied_N = (beta * right_N).abs() < TIE
    reward_N = beta * (policy_N - reference_N).detach()
    chosen = _class_mean(reward_N[wanted_N], wanted_share)
    rejected = _class_mean(reward_N[~wanted_N], 1.0 - wanted_share)
    metrics: dict[str, Tensor | float] = {
        "rewards_chosen": chosen,
        "rewards_rejected": rejected,
        "rewards_margins": chosen - rejected,
        "rewards_accuracy": (0.5 * tied_N + ((right_N > 0) & ~tied_N)).sum(),
        "logps_chosen": _class_mean(policy_N.detach()[wanted_N], wanted_share),
        "logps_rejected": _class_mean(policy_N.detach()[~wanted_N], 1.0 - wanted_share),
        "kl": kl * len(reference_N),
    }
    return Terms(loss, float(len(reference_N)), metrics)


def _class_mean(values: Tensor, share: float) -> Tensor:
    """A sum that becomes the mean of one class once it is divided by the rows of both."""
    return values.sum() / share if len(values) else values.new_zeros(())
