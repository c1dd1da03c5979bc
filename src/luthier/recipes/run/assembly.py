"""The parts of a run as its settings describe them: order, optimiser, rhythm, objective."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from luthier.config.settings import Settings
from luthier.data.packing.steps import StepPlanner
from luthier.data.types import Example
from luthier.engine.evaluate import evaluate
from luthier.engine.optim import Updater
from luthier.engine.schedule import learning_rate_at, warmup_steps
from luthier.recipes.before.inputs import Inputs
from luthier.recipes.run.context import RunContext
from luthier.recipes.run.objective import (
    FeedbackObjective,
    Objective,
    PairObjective,
    TokenObjective,
    labels,
    with_facts,
    with_mismatched,
)
from luthier.recipes.run.reference import reference_values
from luthier.recipes.run.steps import EvalSource
from luthier.recipes.run.trainee import Trainee
from luthier.recipes.run.watch import Rhythm

OPTIMISERS: dict[str, Any] = {
    "adamw_torch": "adamw",
    "adamw_8bit": "adamw_8bit",
    "paged_adamw_32bit": "adamw_32bit_paged",
    "paged_adamw_8bit": "adamw_8bit_paged",
}


def make_planner(context: RunContext, inputs: Inputs, trainee: Trainee) -> StepPlanner:
    """Order and cut of the samples."""
    decided = context.decided
    return StepPlanner(
        inputs.train,
        seed=decided.settings.seed,
        samples_per_step=decided.samples_per_step,
        micro_batch_tokens=decided.micro_batch_tokens,
        share=decided.share,
        max_sequences=trainee.max_sequences,
        num_train_epochs=decided.epochs,
        max_steps=decided.settings.max_steps,
    )


def make_updater(context: RunContext, trainee: Trainee) -> Updater:
    """Optimiser over what is trained."""
    settings = context.settings
    if settings.optim.startswith("paged") and context.device.type != "cuda":
        context.notice(f"optim: {settings.optim}: on the CPU pages are ordinary memory")
    return Updater(trainee.trained, **updater_options(settings, trainee))


def updater_options(settings: Settings, trainee: Trainee) -> dict[str, Any]:
    """The optimiser that the settings describe, as arguments of `Updater`."""
    return {
        "optim": OPTIMISERS[settings.optim],
        "betas": (settings.adam_beta1, settings.adam_beta2),
        "eps": settings.adam_epsilon,
        "weight_decay": settings.weight_decay,
        "max_grad_norm": settings.max_grad_norm,
        "master_weights": settings.master_weights == "float32",
        "no_decay": trainee.no_decay,
        "rates": trainee.rates(settings.loraplus_lr_ratio),
        "seed": settings.seed,
    }


def make_schedule(context: RunContext, num_steps: int) -> Callable[[int], float]:
    """Learning rate of each step."""
    settings = context.settings
    return partial(
        learning_rate_at,
        peak=context.decided.learning_rate,
        schedule=settings.lr_scheduler_type,
        num_steps=num_steps,
        num_warmup=warmup_steps(settings.warmup_ratio, num_steps),
    )


def make_rhythm(context: RunContext, planner: StepPlanner, held_out: bool) -> Rhythm:
    """When something is due."""
    settings = context.settings
    epoch = planner.steps_per_epoch
    evaluating = epoch if settings.eval_steps == "epoch" else settings.eval_steps
    saving = epoch if settings.save_steps == "epoch" else settings.save_steps
    return Rhythm(
        settings.logging_steps, evaluating if held_out else None, saving, planner.num_steps
    )


def make_objective(
    context: RunContext, trainee: Trainee, examples: Sequence[Example], prints: Mapping[str, str]
) -> Objective:
    """What is made small over some examples.

    Args:
        prints: Fingerprints of what reference values depend on.

    Raises:
        Interrupted: A stop was asked for while the reference was scored.
        NoRowsError: Fewer than two labelled answers.
    """
    settings = context.settings
    if settings.objective not in ("dpo", "kto"):
        return TokenObjective(trainee)
    unpaired = settings.objective == "kto"
    scored = with_mismatched(examples, settings) if unpaired else examples
    reference_P2 = None
    if settings.needs_reference:
        share = context.decided.share
        reference_P2 = reference_values(context, trainee, scored, prints, share=share)
    if unpaired:
        assert reference_P2 is not None, "KTO compares with a reference"
        return FeedbackObjective(trainee, reference_P2, labels(examples), settings)
    return PairObjective(trainee, reference_P2, settings)


def make_evaluation(
    context: RunContext, judge: Objective | None, held_out: EvalSource
) -> Callable[[], dict[str, float]] | None:
    """Held-out means when called; None without held-out data."""
    if judge is None:
        return None
    plan = with_facts(judge, held_out, context.stop_requested)
    return lambda: evaluate(
        judge,
        lambda: plan(0),
        shrink=held_out.shrink,
        ranks=context.ranks,
        should_stop=context.stop_requested,
    )
