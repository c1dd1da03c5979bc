"""The plan of a run: its steps, its optimiser, when it logs, evaluates and saves."""

from collections.abc import Callable
from functools import partial
from typing import Any

from luthier.config.settings import Settings
from luthier.data.packing.steps import StepPlanner
from luthier.engine.optim import Updater
from luthier.engine.schedule import learning_rate_at, warmup_steps
from luthier.planner.plan import Plan
from luthier.recipes.before.inputs import Inputs
from luthier.recipes.run import prepare
from luthier.recipes.run.context import RunContext
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
    settings = context.settings
    batch, tokens = settings.per_device_train_batch_size, settings.micro_batch_tokens
    assert isinstance(batch, int)
    assert isinstance(tokens, int)
    return StepPlanner(
        inputs.train,
        seed=settings.seed,
        samples_per_step=batch * settings.gradient_accumulation_steps * settings.devices,
        micro_batch_tokens=tokens,
        share=settings.share_prefixes is True,
        max_sequences=trainee.max_sequences,
        num_train_epochs=settings.num_train_epochs or 1.0,
        max_steps=settings.max_steps,
    )


def make_updater(context: RunContext, trainee: Trainee) -> Updater:
    """Optimiser over what is trained."""
    settings = context.settings
    if settings.optim.startswith("paged") and not context.machine.cuda:
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
        "seed": settings.seed,
    }


def schedule(settings: Settings, num_steps: int) -> Callable[[int], float]:
    """Learning rate of each step."""
    assert settings.learning_rate is not None
    return partial(
        learning_rate_at,
        peak=settings.learning_rate,
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


def summary(predicted: Plan) -> dict[str, Any]:
    """The part of a plan that a run keeps: memory, time and what they rest on."""
    whole = predicted.to_dict()
    names = (
        *("peak_bytes", "peak_where", "allocated_bytes", "parts", "host_bytes", "verdict"),
        *("margin_bytes", "seconds", "time_source", "tokens", "work", "notes"),
    )
    return {name: whole[name] for name in names}


def write_plan(context: RunContext, trainee: Trainee, planner: StepPlanner, inputs: Inputs) -> None:
    """`plan.json`: steps, sizes, and every value that was chosen, with its reason."""
    settings = context.settings
    chosen = {name: reason for name, (_, reason) in context.resolved.decided().items()}
    samples = settings.gradient_accumulation_steps * settings.devices
    predicted = context.predicted
    assert predicted is not None, "the run is planned before its model is loaded"
    assert isinstance(settings.per_device_train_batch_size, int)
    prepare.write_plan(
        context,
        {
            "steps": planner.num_steps,
            "steps_per_epoch": planner.steps_per_epoch,
            "samples": len(inputs.train),
            "held_out": len(inputs.held_out),
            "samples_per_step": settings.per_device_train_batch_size * samples,
            "micro_batch_tokens": settings.micro_batch_tokens,
            "parameters": trainee.num_params,
            "trained_parameters": trainee.num_trained,
            "static_bytes": trainee.static_bytes(),
            "disk_bytes": prepare.check_disk(context, predicted.disk_bytes),
            "predicted": summary(predicted),
            "chosen": {n: [getattr(settings, n), reason] for n, reason in chosen.items()},
        },
    )
