"""The loss of a micro-batch, as the loop and the evaluation call it.

KTO's divergence is estimated before the first micro-batch of a step: one number for the whole step,
over all ranks, so that the cut cannot change the loss.  It costs one forward pass without gradient
over about as many tokens as the step has.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from luthier.config.settings import Settings
from luthier.data.packing.mismatch import mismatched
from luthier.data.types import Example
from luthier.engine.evaluate import evaluate
from luthier.engine.loop import StepShare
from luthier.models.scorer import Scores
from luthier.objectives.dpo import dpo
from luthier.objectives.kto import kto
from luthier.objectives.reference_free import orpo, simpo
from luthier.objectives.sft import sft
from luthier.objectives.sums import sequence_sums
from luthier.objectives.terms import Terms
from luthier.recipes.run.steps import Cutter, EvalSource, MicroBatch, StepFacts, StepSource
from luthier.recipes.run.trainee import Trainee

Objective = Callable[[MicroBatch], Terms]
Plan = Callable[[int], StepShare[MicroBatch]]


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


@dataclass(frozen=True, slots=True)
class FeedbackObjective:
    """KTO: labelled answers against the reference.

    Args:
        reference_P2: Summed log-probability under the reference of every row's answer, and of the
            mismatched one, float64.
        wanted_P: Label of every row, bool.
    """

    trainee: Trainee
    reference_P2: Tensor
    wanted_P: Tensor
    settings: Settings

    def __call__(self, batch: MicroBatch) -> Terms:
        return self.terms(batch, self.trainee.score(batch.packed, step=training_step(batch)))

    def terms(self, batch: MicroBatch, scores: Scores) -> Terms:
        """The loss of targets that are scored already."""
        logp_S = scores.logp_S
        samples, device = torch.tensor(batch.samples), logp_S.device
        terms = kto(
            logp_S,
            weight_S=torch.from_numpy(batch.packed.target_weight).to(device),
            sequence_S=torch.from_numpy(batch.packed.target_sequence).long().to(device),
            reference_N=self.reference_P2[:, 0].index_select(0, samples).to(device),
            wanted_N=self.wanted_P.index_select(0, samples).to(device),
            kl=batch.facts.kl,
            beta=self.settings.dpo_beta,
            desirable_weight=self.settings.kto_desirable_weight,
            wanted_share=batch.facts.wanted_share,
        )
        accuracy = terms.metrics["rewards_accuracy"]
        return terms._replace(metrics={**terms.metrics, "accuracy": accuracy})


class Estimator:
    """Puts the divergence of a step, and its share of wanted rows, into the step's micro-batches.

    Args:
        cutter: Of the mismatched sequences, in the order of the rows.
    """

    def __init__(
        self, objective: FeedbackObjective, cutter: Cutter, should_stop: Callable[[], bool]
    ) -> None:
        self._objective, self._cutter, self._should_stop = objective, cutter, should_stop

    def around(self, plan: Plan) -> Plan:
        """The same plan, with facts in its micro-batches.

        It runs the model as it stands, so a step has to be planned when the one before is done.
        """
        return lambda number: self._with_facts(plan(number))

    def _with_facts(self, step: StepShare[MicroBatch]) -> StepShare[MicroBatch]:
        mine = [sample for batch in step.batches for sample in batch.samples]
        means = evaluate(
            self._gains,
            lambda: self._cutter.some(step.number, mine, step.units),
            shrink=lambda number, error: self._cutter.shrink(
                self._cutter.some(number, mine, step.units), error
            ),
            ranks=self._cutter.ranks,
            should_stop=self._should_stop,
        )
        facts = StepFacts(max(0.0, means["loss"]), means.get("wanted", 0.0))
        return step._replace(batches=[batch._replace(facts=facts) for batch in step.batches])

    def _gains(self, batch: MicroBatch) -> Terms:
        """Summed log-ratios to the reference, where a loss would be."""
        objective, samples = self._objective, torch.tensor(batch.samples)
        logp_S = objective.trainee.score(batch.packed).logp_S
        policy_N = sequence_sums(
            logp_S,
            torch.from_numpy(batch.packed.target_weight).to(logp_S.device),
            torch.from_numpy(batch.packed.target_sequence).long().to(logp_S.device),
            len(samples),
        )
        reference_N = objective.reference_P2[:, 1].index_select(0, samples).to(policy_N)
        wanted = objective.wanted_P.index_select(0, samples).sum().double()
        return Terms((policy_N - reference_N).sum(), float(len(samples)), {"wanted": wanted})


def with_mismatched(examples: Sequence[Example], settings: Settings) -> list[Example]:
    """Each row's own sequence and the mismatched one: what the reference is scored on."""
    others = mismatched(examples, seed=settings.seed, limit=settings.seq_length)
    return [
        Example((*own.sequences, *other.sequences), own.origin)
        for own, other in zip(examples, others, strict=True)
    ]


def labels(examples: Sequence[Example]) -> Tensor:
    """Whether each answer is wanted, bool, (P,)."""
    return torch.tensor([bool(example.wanted) for example in examples])


def with_facts(
    objective: Objective,
    source: EvalSource | StepSource,
    should_stop: Callable[[], bool] = lambda: False,
) -> Plan:
    """The plan of steps with what the objective has to know of a whole step in it."""
    if not isinstance(objective, FeedbackObjective):
        return source.plan
    cutter = source.cutter
    scored = with_mismatched(cutter.examples, objective.settings)
    others = Cutter(
        [Example(one.sequences[1:], one.origin) for one in scored],
        objective="kto",
        budget=cutter.budget,
        share=cutter.share,
        max_sequences=cutter.max_sequences,
        ranks=cutter.ranks,
        warn=cutter.warn,
    )
    return Estimator(objective, others, should_stop).around(source.plan)


def training_step(batch: MicroBatch) -> int | None:
    """The step whose dropout masks apply; None in evaluation, which asks for no gradient."""
    return batch.step if torch.is_grad_enabled() else None
