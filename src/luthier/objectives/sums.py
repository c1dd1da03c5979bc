"""Log-probabilities of whole answers, and what is reported of pairs of them.

S: supervised targets.  N = 2P: sequences, chosen and rejected in turn.  P: pairs.
"""

from torch import Tensor

TIE = 1e-5
"""Nats (times beta) below which two rewards are the same: float32 sums differ by as much."""


def sequence_sums(
    logp_S: Tensor, weight_S: Tensor, sequence_S: Tensor, num_sequences: int
) -> Tensor:
    """Weighted log-probability of each sequence, nats, shape (N,): what the reference is too.

    Summed in float64: a float32 sum of 300 nats is only good to 3e-5.
    """
    weighted_S = weight_S.double() * logp_S.double()
    return weighted_S.new_zeros(num_sequences).index_add(0, sequence_S, weighted_S)


def sequence_weights(weight_S: Tensor, sequence_S: Tensor, num_sequences: int) -> Tensor:
    """Summed weight of each sequence's targets, float64, shape (N,): its length where all are 1."""
    whole_S = weight_S.double()
    return whole_S.new_zeros(num_sequences).index_add(0, sequence_S, whole_S)


def pair_metrics(policy_N: Tensor, reward_N: Tensor) -> dict[str, Tensor]:
    """Sums over pairs of both rewards, their margin, both log-probabilities, and pairs in order.

    Args:
        policy_N: Log-probability of each answer under the policy, detached.
        reward_N: Implicit reward of each answer, detached.
    """
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
