"""Preference losses against a reference: DPO and its relatives.

S: supervised targets.  N = 2P: sequences, chosen and rejected in turn.  P: pairs.

Of what loss is put on the margin, see `pair_losses`; here is what the margin is.  IPO stands on
the log-probability of the whole answer, as in its paper (TRL divides it by the answer's length).
"""

from typing import Literal

from torch import Tensor

from luthier.objectives import pair_losses
from luthier.objectives.sums import pair_metrics, sequence_sums, sequence_weights
from luthier.objectives.terms import Terms

PairLoss = Literal["sigmoid", "sigmoid_norm", "hinge", "robust", "ipo"]


def dpo(
    logp_S: Tensor,
    *,
    weight_S: Tensor,
    sequence_S: Tensor,
    reference_N: Tensor,
    beta: float,
    loss_type: PairLoss = "sigmoid",
    label_smoothing: float = 0.0,
    sft_weight: float = 0.0,
) -> Terms:
    """Preference loss of P pairs, summed and not averaged.

    Args:
        logp_S: Log-probability of each target under the policy, nats.
        weight_S: Loss weight of each target, >= 0.
        sequence_S: Which sequence a target belongs to, int64; pair p is sequences 2p and 2p + 1.
        reference_N: Summed log-probability of each sequence under the reference, from
            `sequence_sums` and kept in float64; no gradient.
        beta: Pull towards the reference, > 0; the paper uses 0.1 to 0.5.  In IPO it is tau.
        loss_type: `sigmoid` is DPO; `sigmoid_norm` takes the log-ratio per token of each answer
            (Lambert et al. 2024, https://arxiv.org/abs/2411.15124, length-normalised DPO);
            `hinge`, `robust` and `ipo` as in `pair_losses`.
        label_smoothing: Share of the pairs whose order is taken to be wrong, 0 to below 0.5;
            `sigmoid` expects them, `robust` takes them out; not in the others.
        sft_weight: Of the chosen answer's negative log-likelihood per token, added to the loss
            (Pang et al. 2024, https://arxiv.org/abs/2404.19733, eq. 1; its alpha), >= 0.

    Returns:
        The summed loss, P, and sums of both implicit rewards, their margin, pairs ranked right,
        both log-probabilities, and pairs whose chosen answer is the likelier one whatever the
        reference says.
    """
    policy_N = sequence_sums(logp_S, weight_S, sequence_S, len(reference_N))
    length_N = sequence_weights(weight_S, sequence_S, len(reference_N))
    ratio_N = policy_N - reference_N
    if loss_type == "sigmoid_norm":
        ratio_N = ratio_N / length_N
    margin_P = ratio_N[0::2] - ratio_N[1::2]
    loss = _on_margin(margin_P, beta, loss_type, label_smoothing).sum()
    if sft_weight:
        loss = loss - sft_weight * (policy_N[0::2] / length_N[0::2]).sum()
    metrics = pair_metrics(policy_N.detach(), beta * ratio_N.detach())
    return Terms(loss, float(len(margin_P)), metrics)


def _on_margin(
    margin_P: Tensor, beta: float, loss_type: PairLoss, label_smoothing: float
) -> Tensor:
    match loss_type:
        case "ipo":
            return pair_losses.squared(margin_P, beta)
        case "hinge":
            return pair_losses.hinge(margin_P, beta)
        case "robust":
            return pair_losses.robust(margin_P, beta, label_smoothing)
        case _:
            return pair_losses.logistic(margin_P, beta, label_smoothing)
