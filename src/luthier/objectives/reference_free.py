"""Preference losses that need no reference: SimPO and ORPO.

S: supervised targets.  N = 2P: sequences, chosen and rejected in turn.  P: pairs.

Both stand on the mean log-probability of an answer's tokens, so that a long answer is not less
likely for its length alone.
"""

from torch import Tensor

from luthier.objectives import pair_losses
from luthier.objectives.sums import pair_metrics, sequence_sums, sequence_weights
from luthier.objectives.terms import Terms


def simpo(
    logp_S: Tensor,
    *,
    weight_S: Tensor,
    sequence_S: Tensor,
    num_sequences: int,
    beta: float,
    gamma: float,
    label_smoothing: float = 0.0,
    sft_weight: float = 0.0,
) -> Terms:
    """-log sigmoid(beta (chosen - rejected) - gamma), on mean log-probabilities, summed over pairs.

    Args:
        logp_S: Log-probability of each target, nats.
        weight_S: Loss weight of each target, >= 0.
        sequence_S: Which sequence a target belongs to, int64; pair p is sequences 2p and 2p + 1.
        num_sequences: N.
        beta: Scale of the reward, > 0; the paper uses 2 to 2.5.
        gamma: Reward margin that is asked for, >= 0; the paper uses 0.3 to 1.6.
        label_smoothing: As in `dpo`.
        sft_weight: As in `dpo`.

    Returns:
        The summed loss, P, and the sums of `pair_metrics`; a reward is beta times a mean.

    Source: Meng et al. 2024, https://arxiv.org/abs/2405.14734, eq. 6.
    """
    policy_N = sequence_sums(logp_S, weight_S, sequence_S, num_sequences)
    mean_N = policy_N / sequence_weights(weight_S, sequence_S, num_sequences)
    margin_P = mean_N[0::2] - mean_N[1::2] - gamma / beta
    loss = pair_losses.logistic(margin_P, beta, label_smoothing).sum()
    if sft_weight:
        loss = loss - sft_weight * mean_N[0::2].sum()
    metrics = pair_metrics(policy_N.detach(), beta * mean_N.detach())
    return Terms(loss, float(len(margin_P)), metrics)


def orpo(
    logp_S: Tensor,
    *,
    weight_S: Tensor,
    sequence_S: Tensor,
    num_sequences: int,
    beta: float,
) -> Terms:
    """The chosen answer's negative log-likelihood per token plus beta times the odds-ratio loss.

    The likelihood is the answer's, as in the paper (TRL takes the prompt's tokens in as well).

    Args:
        logp_S: Log-probability of each target, nats.
        weight_S: Loss weight of each target, >= 0.
        sequence_S: Which sequence a target belongs to, int64; pair p is sequences 2p and 2p + 1.
        num_sequences: N.
        beta: Weight of the odds ratio, lambda in the paper, > 0; it uses 0.1 to 1.

    Returns:
        The summed loss, P, and the sums of `pair_metrics`; a reward is beta times a mean.

    Source: Hong et al. 2024, https://arxiv.org/abs/2403.07691, eq. 6.
    """
    policy_N = sequence_sums(logp_S, weight_S, sequence_S, num_sequences)
    mean_N = policy_N / sequence_weights(weight_S, sequence_S, num_sequences)
    chosen_P, rejected_P = mean_N[0::2], mean_N[1::2]
    loss_P = beta * pair_losses.odds_ratio(chosen_P, rejected_P) - chosen_P
    metrics = pair_metrics(policy_N.detach(), beta * mean_N.detach())
    return Terms(loss_P.sum(), float(len(loss_P)), metrics)
