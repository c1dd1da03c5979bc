"""The loss of a micro-batch, as the loop and the evaluation call it."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from luthier.config.settings import Settings
from luthier.objectives.dpo import dpo
from luthier.objectives.sft import sft
from luthier.objectives.terms import Terms
from luthier.recipes.run.steps import MicroBatch
from luthier.recipes.run.trainee import Trainee


@dataclass(frozen=True, slots=True)
class TokenObjective:
    """SFT and plain text: likely targets."""

    trainee: Trainee

    def __call__(self, batch: MicroBatch) -> Terms:
        scores = self.trainee.score(batch.packed, step=training_step(batch))
        weight_S = torch.from_numpy(batch.packed.target_weight).to(scores.logp_S.device)
        return sft(scores.logp_S, weight_S=weight_S, top1_S=scores.top1_S)


@dataclass(frozen=True, slots=True)
class PairObjective:
    """DPO: chosen over rejected, against the reference values of the same pairs.

    Args:
        reference_P2: Summed log-probability of chosen and rejected of every sample, float64.
    """

    trainee: Trainee
    reference_P2: Tensor
    settings: Settings

    def __call__(self, batch: MicroBatch) -> Terms:
        scores = self.trainee.score(batch.packed, step=training_step(batch))
        device = scores.logp_S.device
        samples = torch.tensor(batch.samples)
        terms = dpo(
            scores.logp_S,
            weight_S=torch.from_numpy(batch.packed.target_weight).to(device),
            sequence_S=torch.from_numpy(batch.packed.target_sequence).long().to(device),
            reference_N=self.reference_P2.index_select(0, samples).reshape(-1).to(device),
            beta=self.settings.dpo_beta,
            loss_type=self.settings.dpo_loss_type,
            label_smoothing=self.settings.dpo_label_smoothing,
        )
        accuracy = terms.metrics["rewards_accuracy"]
        return terms._replace(metrics={**terms.metrics, "accuracy": accuracy})


def training_step(batch: MicroBatch) -> int | None:
    """The step whose dropout masks apply; None in evaluation, which asks for no gradient."""
    return batch.step if torch.is_grad_enabled() else None


Objective = Callable[[MicroBatch], Terms]
