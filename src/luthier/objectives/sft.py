"""Supervised fine-tuning: make the answers of the data likely.

S: supervised targets.
"""

from torch import Tensor

from luthier.objectives.terms import Terms


def sft(logp_S: Tensor, *, weight_S: Tensor, top1_S: Tensor | None = None) -> Terms:
    """Weighted negative log-likelihood of S targets, summed and not averaged.

    Args:
        logp_S: Log-probability of each target, nats.
        weight_S: Loss weight of each target, >= 0.
        top1_S: Whether each target was the most likely token; None leaves the accuracy out.

    Returns:
        The summed loss, the sum of the weights, and the weight of the targets that were top.
    """
    accuracy = {} if top1_S is None else {"accuracy": (weight_S * top1_S).detach().sum()}
    return Terms(-(weight_S * logp_S).sum(), weight_S.sum(), accuracy)
