"""The loss of a micro-batch, as the loop and the evaluation call it."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from luthier.config.settings import Settings
from luthier.models.scorer import Scores
from luthier.objectives.dpo import dpo
from luthier.objectives.reference_free import orpo, simpo
from luthier.objectives.sft import sft
from luthier.objectives.terms import Terms
from luthier.recipes.run.steps import MicroBatch
from luthier.recipes.run.trainee import Trainee


@dataclass(frozen=True, slots=True)
class TokenObjective:
    """SFT and plain text: likely targets."""

    trainee: Trainee

    def __call__(self, batch: MicroBatch) -> Terms:
        return self.terms(batch, self.trainee.score(batch.packed, step=training_step(batch)))

    def terms(self, batch: MicroBatch, scores: Scores) -> Terms:
        """The loss of targets that are scored already."""
        weight_S = torch.from_numpy(batch.packed.target_weight).to(scores.logp_S.device)
        return sft(scores.logp_S, weight_S=weight_S, top1_S=scores.top1_S)


@dataclass(frozen=True, slots=True)
class PairObjective:
    """DPO and its relatives: chosen over rejected.

    Args:
        reference_P2: Summed log-probability of chosen and rejected of every sample under the
            reference, float64; None for a loss that has none.
    """

    trainee: Trainee
    reference_P2: Tensor | None
    settings: Settings

    def __call__(self, batch: MicroBatch) -> Terms:
        return self.terms(batch, self.trainee.score(batch.packed, step=training_step(batch)))

    def terms(self, batch: MicroBatch, scores: Scores) -> Terms:
        """The loss of targets that are scored already."""
        terms = self._terms(batch, scores.logp_S)
        accuracy = terms.metrics["rewards_accuracy"]
        return terms._replace(metrics={**terms.metrics, "accuracy": accuracy})

    def _terms(self, batch: MicroBatch, logp_S: Tensor) -> Terms:
        settings, device = self.settings, logp_S.device
        weight_S = torch.from_numpy(batch.packed.target_weight).to(device)
        sequence_S = torch.from_numpy(batch.packed.target_sequence).long().to(device)
        count, loss_type = 2 * len(batch.samples), settings.dpo_loss_type
        if loss_type == "orpo":
            return orpo(
                logp_S,
                weight_S=weight_S,
                sequence_S=sequence_S,
                num_sequences=count,
                beta=settings.dpo_beta,
            )
        if loss_type == "simpo":
            return simpo(
                logp_S,
                weight_S=weight_S,
                sequence_S=sequence_S,
                num_sequences=count,
                beta=settings.dpo_beta,
                gamma=settings.simpo_gamma,
                label_smoothing=settings.dpo_label_smoothing,
                sft_weight=settings.dpo_sft_weight,
            )
        assert self.reference_P2 is not None, "this loss compares with a reference"
        reference_P2 = self.reference_P2.index_select(0, torch.tensor(batch.samples))
        return dpo(
            logp_S,
            weight_S=weight_S,
            sequence_S=sequence_S,
            reference_N=reference_P2.reshape(-1).to(device),
            beta=settings.dpo_beta,
            loss_type=loss_type,
            label_smoothing=settings.dpo_label_smoothing,
            sft_weight=settings.dpo_sft_weight,
        )


def training_step(batch: MicroBatch) -> int | None:
    """The step whose dropout masks apply; None in evaluation, which asks for no gradient."""
    return batch.step if torch.is_grad_enabled() else None


Objective = Callable[[MicroBatch], Terms]
