"""Losses of a pair as functions of how much more likely the chosen answer is than the rejected one.

P: pairs.  Each takes the margin of P pairs and returns their P losses, nats unless said otherwise.

A margin is a difference of log-ratios to a reference, or of log-probabilities, of whole answers or
of their means per token: who calls decides, in `dpo` and `reference_free`.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def logistic(margin_P: Tensor, beta: float, label_smoothing: float = 0.0) -> Tensor:
    """-log sigmoid(beta m): DPO; with smoothing e, the loss expected where a share e is swapped.

    Source: Rafailov et al. 2023, https://arxiv.org/abs/2305.18290, eq. 7; conservative form:
    Mitchell 2023, https://ericmitchell.ai/cdpo.pdf, eq. 3.
    """
    right_P = -F.logsigmoid(beta * margin_P)
    if label_smoothing == 0.0:
        return right_P
    wrong_P = -F.logsigmoid(-beta * margin_P)
    return (1.0 - label_smoothing) * right_P + label_smoothing * wrong_P


def robust(margin_P: Tensor, beta: float, label_smoothing: float) -> Tensor:
    """The logistic loss without the bias that a share e of swapped pairs gives it: its mean over
    such pairs is the mean over right ones.  May be negative.

    ((1 - e) l(m) - e l(-m)) / (1 - 2e).

    Source: Chowdhury et al. 2024, https://arxiv.org/abs/2403.00409, the rDPO loss.
    """
    right_P, wrong_P = -F.logsigmoid(beta * margin_P), -F.logsigmoid(-beta * margin_P)
    mixed_P = (1.0 - label_smoothing) * right_P - label_smoothing * wrong_P
    return mixed_P / (1.0 - 2.0 * label_smoothing)


def hinge(margin_P: Tensor, beta: float) -> Tensor:
    """max(0, 1 - beta m): nothing is asked of a pair that is 1 / beta apart.

    Source: Zhao et al. 2023 (SLiC-HF), https://arxiv.org/abs/2305.10425, calibration loss, on
    log-ratios to the reference as in Liu et al. 2023, https://arxiv.org/abs/2309.06657.
    """
    return torch.relu(1.0 - beta * margin_P)


def squared(margin_P: Tensor, beta: float) -> Tensor:
    """(m - 1 / (2 beta))^2, nats squared: a margin of 1 / (2 beta) is asked for and not more.

    Source: Azar et al. 2023 (IPO), https://arxiv.org/abs/2310.12036, eq. 17; beta is its tau.
    """
    return (margin_P - 1.0 / (2.0 * beta)).square()


def odds_ratio(chosen_P: Tensor, rejected_P: Tensor) -> Tensor:
    """-log sigmoid(log odds(chosen) - log odds(rejected)), odds = p / (1 - p).

    Args:
        chosen_P: Mean log-probability of the chosen answer's tokens, < 0.
        rejected_P: Likewise.

    Source: Hong et al. 2024 (ORPO), https://arxiv.org/abs/2403.07691, eq. 4 and 7.
    """
    return -F.logsigmoid(_log_odds(chosen_P) - _log_odds(rejected_P))


def _log_odds(logp_P: Tensor) -> Tensor:
    # log(1 - p) as log(-expm1(log p)), exact for p near 1; p = 1 itself would give no number.
    inside_P = logp_P.clamp(max=-1e-12)
    return inside_P - torch.log(-torch.expm1(inside_P))
