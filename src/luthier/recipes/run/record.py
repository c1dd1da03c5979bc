"""What a run writes of itself before its first step: settings, data, plan, and what it depends on."""

import hashlib
import json
from pathlib import Path
from typing import Any

from luthier.config.read import Resolved
from luthier.data.packing.steps import StepPlanner
from luthier.durable import free_bytes, write_atomic
from luthier.engine.environment import environment
from luthier.errors import DiskFullError
from luthier.events import DataRead, Planned, Started
from luthier.planner.plan import Plan
from luthier.recipes.before.inputs import Inputs
from luthier.recipes.run.context import Post, RunContext
from luthier.recipes.run.saving import settings_fingerprints
from luthier.recipes.run.trainee import Trainee
from luthier.runs import RunDirectory
from luthier.sources.source import ModelSource
from luthier.units import format_bytes, format_count


def record_start(post: Post, resolved: Resolved) -> bool:
    """The settings as they were given, and who we are; whether the run had been begun before."""
    settings, directory = resolved.settings, post.directory
    again = directory.config_file.exists()
    if post.ranks.first and not again:
        write_atomic(directory.settings_file, resolved.to_json())
        write_atomic(directory.config_file, resolved.config_text)
    post.emit(Started(
        model=settings.model, dataset=list(settings.dataset), method=settings.method,
        objective=settings.objective, device=post.facts.name, devices=post.ranks.size,
        environment=environment(), path=str(directory.path),
    ))  # fmt: skip
    for text in resolved.notices:
        post.notice(text)
    return again


def record_data(post: Post, inputs: Inputs) -> None:
    """`data.json` and the ledger, and the same as events."""
    if post.ranks.first:
        inputs.write(post.directory)
    post.emit(DataRead(**inputs.report))
    for text in inputs.notices:
        post.notice(text)


def record_plan(
    context: RunContext, trainee: Trainee, planner: StepPlanner, inputs: Inputs
) -> None:
    """`settings.json` with nothing left open, and `plan.json`: steps, sizes, what was chosen and why.

    Raises:
        DiskFullError: Checkpoints and result would not fit.
    """
    decided = context.decided
    kept = (decided.settings.save_total_limit or 10) + 2
    check_disk(context.directory, decided.plan.disk_bytes, kept)
    plan: dict[str, Any] = {
        "steps": planner.num_steps,
        "steps_per_epoch": planner.steps_per_epoch,
        "samples": len(inputs.train),
        "held_out": len(inputs.held_out),
        "samples_per_step": decided.samples_per_step,
        "micro_batch_tokens": decided.micro_batch_tokens,
        "parameters": trainee.num_params,
        "trained_parameters": trainee.num_trained,
        "static_bytes": trainee.static_bytes(),
        "disk_bytes": decided.plan.disk_bytes,
        "predicted": summary(decided.plan),
        "chosen": {name: list(choice) for name, choice in decided.resolved.decided().items()},
    }
    if context.ranks.first:
        write_atomic(context.directory.settings_file, decided.resolved.to_json())
        write_atomic(context.directory.plan_file, json.dumps(plan, indent=2) + "\n")
    context.emit(Planned(**plan))


def summary(plan: Plan) -> dict[str, Any]:
    """The part of a plan that a run keeps: memory, time and what they rest on."""
    whole = plan.to_dict()
    names = (
        *("peak_bytes", "peak_where", "allocated_bytes", "parts", "host_bytes", "verdict"),
        *("margin_bytes", "seconds", "time_source", "tokens", "work", "notes"),
    )
    return {name: whole[name] for name in names}


def check_disk(directory: RunDirectory, needed: int, kept: int) -> None:
    """Refuse a run whose checkpoints and result the disk cannot hold.

    Args:
        needed: Bytes, by the plan.
        kept: Checkpoints that are there at once.

    Raises:
        DiskFullError: Less is free.
    """
    free = free_bytes(directory.path)
    if needed > free:
        raise DiskFullError(
            f"checkpoints and result need {format_bytes(needed)}, {format_bytes(free)} is free",
            why=f"{format_count(kept)} checkpoints of {format_bytes(needed // kept)} are kept at once",
            fix="--save_total_limit 1, or --output_dir on another disk",
        )


def fingerprints(context: RunContext, source: ModelSource, inputs: Inputs) -> dict[str, str]:
    """Of all that the rest of a run depends on."""
    settings = context.settings
    template = inputs.template.fingerprint if inputs.template else "off"
    return {
        **inputs.fingerprints,
        "template": template,
        "tokenizer": inputs.tokenizer.fingerprint,
        "base model": "random weights" if settings.from_scratch else hash_weights(source.base),
        "starting adapter": hash_weights(source.adapter) if source.adapter else "new",
        **settings_fingerprints(settings),
        "samples per step": str(context.decided.samples_per_step),
    }


def hash_weights(folder: Path) -> str:
    """SHA-256 over the names and bytes of the safetensors files of a folder and its config."""
    digest = hashlib.sha256()
    names = sorted(folder.glob("*.safetensors")) + sorted(folder.glob("*config.json"))
    for path in names:
        digest.update(path.name.encode())
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()
