"""Everything before the first step: data, then the model, then what was left open."""

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import psutil

from luthier.durable import free_bytes, write_atomic
from luthier.errors import DiskFullError, NoRowsError
from luthier.events import DataRead, Planned, Warned
from luthier.models.forms import forms
from luthier.planner.choose import Chooser
from luthier.planner.data_shape import DataShape
from luthier.planner.history import learned_runtime, rate_of
from luthier.planner.plan import Plan, how_of, plan
from luthier.planner.refuse import does_not_fit, ignores_plan
from luthier.planner.shape import Shape
from luthier.recipes.before.card_settings import follow_card
from luthier.recipes.before.inputs import Inputs, make_inputs
from luthier.recipes.before.opening import open_run
from luthier.recipes.before.start import agree_with_start
from luthier.recipes.run.choices import DTYPES, choose_dtype, choose_for_data, choose_for_memory
from luthier.recipes.run.context import RunContext
from luthier.recipes.run.result import keep_start
from luthier.recipes.run.saving import settings_fingerprints
from luthier.recipes.run.trainee import Trainee, make_trainee
from luthier.sources.check import check_tokenizer_fits
from luthier.sources.source import ModelSource, resolve_source
from luthier.units import format_bytes, format_count


def find_model(context: RunContext) -> ModelSource:
    """The base model, and the adapter that training starts from, if `model` names one.

    A starting adapter is copied into the run, so that a resume has it whatever happens to it.
    """
    source = resolve_source(
        context.settings.model,
        revision=context.settings.revision,
        progress=_Fetching(context, context.settings.model),
    )
    context.resolved = follow_card(agree_with_start(context.resolved, source), source.name)
    if source.adapter is None:
        return source
    return dataclasses.replace(source, adapter=keep_start(context, source.adapter))


class _Fetching:
    """Says once that a model is being fetched, and how large it is; nothing if it is at hand."""

    def __init__(self, context: RunContext, model: str) -> None:
        self._context, self._model, self._total = context, model, 0

    def __call__(self, name: str, done: int, total: int) -> None:
        if total > 2 * self._total:  # of the small files first, then of all
            self._total = total
            self._context.notice(f"fetching {self._model}: {format_bytes(total)}")


def read_data(context: RunContext, source: ModelSource) -> Inputs:
    """Tokenizer, template and examples."""
    settings = context.settings
    opening = open_run(settings, source, now=context.now)
    inputs = make_inputs(opening)
    if not inputs.train:
        record_data(context, inputs)
        raise NoRowsError(
            f"no row of {', '.join(settings.dataset)} is left to learn from",
            why="every row was dropped; data.json and ledger.jsonl say why",
            fix=f"luthier data show {settings.dataset[0]} --row 1 --model {settings.model}",
        )
    inputs.notices[:0] = opening.notices
    return inputs


def record_data(context: RunContext, inputs: Inputs) -> None:
    """`data.json` and the ledger, and the same as events."""
    if context.ranks.first:
        inputs.write(context.directory)
    context.emit(DataRead(**inputs.report))
    for text in inputs.notices:
        context.notice(text)


def load_trainee(context: RunContext, source: ModelSource, inputs: Inputs) -> Trainee:
    """The model with what is trained, and every open value decided from it and the data."""
    settings = context.settings
    name, why = choose_dtype(settings.torch_dtype, context.machine)
    if settings.torch_dtype == "auto":
        context.resolved = context.resolved.fill(torch_dtype=(name, why))
    context.predicted = predict(context, source, inputs)
    context.resident_bytes = psutil.Process().memory_info().rss
    trainee = make_trainee(context.settings, source, DTYPES[name], context.machine)
    rows = trainee.model.get_input_embeddings().weight.shape[0]
    check_tokenizer_fits(inputs.tokenizer.vocab_size, rows)
    for text in trainee.report:
        context.notice(text)
    context.resolved = choose_for_data(
        context.resolved, num_samples=len(inputs.train), num_params=trainee.num_params
    )
    longest = inputs.longest_sample() if trainee.packed else inputs.longest_sequence()
    device = context.machine.as_device(context.settings.devices)
    chooser = Chooser(
        Shape.from_config(source.config),
        how_of(context.settings, source.family, device),
        device,
        DataShape.of(inputs.train, inputs.held_out).targets_share,
    )
    context.resolved = choose_for_memory(
        context.resolved, chooser, longest_sample=longest, packable=trainee.packed
    )
    trainee.ready(checkpointing=context.settings.gradient_checkpointing, seed=context.settings.seed)
    for text in forms(
        trainee.model, device=trainee.device, dtype=trainee.dtype, packed=trainee.packed
    ):
        context.notice(text)
    return trainee


def predict(context: RunContext, source: ModelSource, inputs: Inputs) -> Plan:
    """What the run will take, before a weight is loaded.

    Raises:
        CapacityError: It does not fit; `LUTHIER_IGNORE_PLAN=1` trains all the same.
    """
    settings = context.settings
    device = context.machine.as_device(settings.devices)
    shape = Shape.from_config(source.config)
    predicted = plan(
        settings,
        source.config,
        DataShape.of(inputs.train, inputs.held_out),
        device,
        rate=rate_of(device, settings.torch_dtype, shape.num_params),
        learned=learned_runtime(device),
    )
    if predicted.verdict == "no":
        refusal = does_not_fit(predicted)
        if not ignores_plan():
            raise refusal
        context.emit(Warned(text=f"{refusal.what}; LUTHIER_IGNORE_PLAN is set"))
    return predicted


def fingerprints(context: RunContext, source: ModelSource, inputs: Inputs) -> dict[str, str]:
    """Of all that the rest of a run depends on."""
    template = inputs.template.fingerprint if inputs.template else "off"
    return {
        **inputs.fingerprints,
        "template": template,
        "tokenizer": inputs.tokenizer.fingerprint,
        "base model": "random weights"
        if context.settings.from_scratch
        else hash_weights(source.base),
        "starting adapter": hash_weights(source.adapter) if source.adapter else "new",
        **settings_fingerprints(context.settings),
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


def check_disk(context: RunContext, needed: int) -> int:
    """The bytes that the plan counts for checkpoints and result; refused when the disk lacks them."""
    kept = (context.settings.save_total_limit or 10) + 2
    free = free_bytes(context.directory.path)
    if needed > free:
        raise DiskFullError(
            f"checkpoints and result need {format_bytes(needed)}, {format_bytes(free)} is free",
            why=f"{format_count(kept)} checkpoints of {format_bytes(needed // kept)} are kept at once",
            fix="--save_total_limit 1, or --output_dir on another disk",
        )
    return needed


def write_plan(context: RunContext, plan: dict[str, Any]) -> None:
    """`settings.json` with nothing left open, `plan.json`, and the event."""
    if context.ranks.first:
        write_atomic(context.directory.settings_file, context.resolved.to_json())
        write_atomic(context.directory.plan_file, json.dumps(plan, indent=2) + "\n")
    context.emit(Planned(**plan))
