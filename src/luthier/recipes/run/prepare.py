"""Everything before the first step: the model's files, the data, what is decided, the model."""

import dataclasses

import psutil

from luthier.config.read import Resolved
from luthier.errors import NoRowsError
from luthier.events import Warned
from luthier.models.forms import forms
from luthier.planner.data_shape import DataShape
from luthier.planner.refuse import does_not_fit
from luthier.recipes.before.card_settings import follow_card
from luthier.recipes.before.deciding import decide
from luthier.recipes.before.inputs import Inputs, make_inputs
from luthier.recipes.before.opening import open_run
from luthier.recipes.before.start import agree_with_start
from luthier.recipes.run.context import Post, RunContext
from luthier.recipes.run.devices import DTYPES
from luthier.recipes.run.record import record_data
from luthier.recipes.run.result import keep_start
from luthier.recipes.run.trainee import Trainee, make_trainee
from luthier.sources.check import check_tokenizer_fits
from luthier.sources.source import ModelSource, resolve_source
from luthier.units import format_bytes


def find_model(post: Post, resolved: Resolved) -> tuple[ModelSource, Resolved]:
    """The base model, the adapter that training starts from if `model` names one, and what both decide.

    A starting adapter is copied into the run, so that a resume has it whatever happens to it.
    """
    settings = resolved.settings
    source = resolve_source(
        settings.model, revision=settings.revision, progress=_Fetching(post, settings.model)
    )
    resolved = follow_card(agree_with_start(resolved, source), source.name)
    if source.adapter is not None:
        source = dataclasses.replace(source, adapter=keep_start(post, source.adapter))
    return source, resolved


class _Fetching:
    """Says once that a model is being fetched, and how large it is; nothing if it is at hand."""

    def __init__(self, post: Post, model: str) -> None:
        self._post, self._model, self._total = post, model, 0

    def __call__(self, name: str, done: int, total: int) -> None:
        if total > 2 * self._total:  # of the small files first, then of all
            self._total = total
            self._post.notice(f"fetching {self._model}: {format_bytes(total)}")


def read_data(post: Post, resolved: Resolved, source: ModelSource) -> Inputs:
    """Tokenizer, template and examples."""
    settings = resolved.settings
    opening = open_run(settings, source, now=post.now)
    inputs = make_inputs(opening)
    if not inputs.train:
        record_data(post, inputs)
        raise NoRowsError(
            f"no row of {', '.join(settings.dataset)} is left to learn from",
            why="every row was dropped; data.json and ledger.jsonl say why",
            fix=f"luthier data show {settings.dataset[0]} --row 1 --model {settings.model}",
        )
    inputs.notices[:0] = opening.notices
    return inputs


def decide_run(post: Post, resolved: Resolved, source: ModelSource, inputs: Inputs) -> RunContext:
    """What the run does and will take, before a weight is loaded.

    Raises:
        CapacityError: It does not fit, and nobody wished it to start all the same.
    """
    data = DataShape.of(inputs.train, inputs.held_out)
    device = dataclasses.replace(post.facts, count=resolved.settings.devices)
    decided = decide(resolved, source.config, data, device)
    if decided.plan.verdict == "no":
        refusal = does_not_fit(decided.plan)
        if not post.wishes.ignore_plan:
            raise refusal
        post.emit(Warned(text=f"{refusal.what}; it starts all the same, as was asked for"))
    return post.begin(decided, resident_bytes=psutil.Process().memory_info().rss)


def load_trainee(context: RunContext, source: ModelSource, inputs: Inputs) -> Trainee:
    """The model with what is trained, ready to be scored."""
    settings = context.settings
    trainee = make_trainee(settings, source, DTYPES[context.decided.dtype], context.device)
    rows = trainee.model.get_input_embeddings().weight.shape[0]
    check_tokenizer_fits(inputs.tokenizer.vocab_size, rows)
    for text in trainee.report:
        context.notice(text)
    trainee.ready(checkpointing=settings.gradient_checkpointing, seed=settings.seed)
    for text in forms(
        trainee.model, device=trainee.device, dtype=trainee.dtype, packed=trainee.packed
    ):
        context.notice(text)
    return trainee
