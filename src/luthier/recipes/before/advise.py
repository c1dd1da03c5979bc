"""Advice for real files, a real model and a machine: reads, counts, asks the table."""

from luthier.advisor.advise import advise
from luthier.advisor.facts import Facts
from luthier.advisor.measure import kind_of, measure_machine, measure_model, measure_rows
from luthier.advisor.reason import Advice
from luthier.config.read import Resolved
from luthier.data.load import load_samples
from luthier.data.prepare import refuse_bad
from luthier.data.types import Example, Sample
from luthier.errors import DataError, ModelNotFoundError, NoRowsError
from luthier.planner.device import Device, this_machine
from luthier.recipes.before.opening import Opening, load_rows, open_run
from luthier.sources.source import ModelSource, resolve_local

RENDERED = 4_000
"""Rows that are rendered to be counted; of larger data sets as many, evenly spread."""

OBJECTIVES = {"pairs": "dpo", "texts": "text", "conversations": "sft", "feedback": "kto"}


def advise_run(
    resolved: Resolved, *, goal: str = "", device: str | None = None, lang: str = "en"
) -> Advice:
    """Settings for the rows and the model of `resolved`; what somebody gave there is kept.

    Nothing is loaded of the model but its config and tokenizer, and nothing is fetched.

    Args:
        goal: What the training is for, in words.
        device: A machine that may not be here, such as `T4 16GB`; None is this one.
        lang: Of the texts: en, zh, id or vi.

    Raises:
        LuthierError: Model or rows are not here, or the rows cannot be learned from: what training
            would refuse is refused here too.
    """
    given = {
        name: value
        for name, value in resolved.settings.model_dump(mode="json").items()
        if resolved.is_given(name) and name not in ("model", "dataset")
    }
    return advise(gather(resolved, goal=goal, device=device), fixed=given, lang=lang)


def gather(resolved: Resolved, *, goal: str = "", device: str | None = None) -> Facts:
    """The facts of rows, model and machine."""
    settings = resolved.settings
    machine = Device.parse(device) if device else this_machine(settings.devices)
    source = _source(settings.model)
    loaded = load_samples(
        settings.dataset, columns=settings.columns, encoding=settings.encoding, objective=None
    )
    if not loaded.samples:
        raise NoRowsError(
            f"no row of {', '.join(settings.dataset)} can be used",
            why="there is nothing to give advice on",
            fix=f"luthier data check {settings.dataset[0]} --model {settings.model}",
        )
    total = len(loaded.samples) + len(loaded.bad)
    refuse_bad(loaded.bad, total, bad_rows=settings.bad_rows, columns=settings.columns)  # as train
    if not resolved.is_given("objective"):
        objective = OBJECTIVES[kind_of(loaded.samples)]
        settings = settings.model_copy(update={"objective": objective})
        load_rows(settings)  # refuses rows that this objective cannot use
    opening = open_run(settings, source, whole=True, rows=loaded)
    samples, examples, total = _rendered(opening)
    rows = measure_rows(samples, examples, opening.tokenizer, total=total)
    return Facts(
        rows,
        measure_model(
            settings.model,
            source.config,
            tuned=source.adapter is not None,
            chat=source.run is not None or _answers(source),
        ),
        measure_machine(source.config, machine, longest=rows.longest),
        goal,
        tuple(settings.dataset),
    )


def _source(model: str) -> ModelSource:
    source = resolve_local(model)
    if source is None:
        raise ModelNotFoundError(
            f"{model} is not on this machine",
            why="rows are counted with the model's own tokenizer, and advice fetches nothing",
            fix=f"luthier gallery pull {model}",
        )
    return source


def _answers(source: ModelSource) -> bool:
    """Whether a model has been taught to answer, as far as its name tells."""
    return "base" not in source.name.lower() and source.name != "starter"


def _rendered(opening: Opening) -> tuple[list[Sample], list[Example], int]:
    """Some samples and their examples without a limit, and how many there would be of all."""
    settings, renderer, samples = opening.settings, opening.renderer, opening.rows.samples
    some = [samples[index * len(samples) // RENDERED] for index in range(RENDERED)]
    some = some if len(samples) > RENDERED else list(samples)
    used: list[tuple[Sample, Example]] = []
    for sample, made in zip(some, renderer.render_each(some), strict=True):
        if isinstance(made, DataError):
            raise made
        if isinstance(made, Example):
            used.append((sample, made))
    if not used:
        raise NoRowsError(
            f"no row of {', '.join(settings.dataset)} can be learned from",
            why="every one was dropped when it was rendered",
            fix=f"luthier data check {settings.dataset[0]} --model {settings.model}",
        )
    total = round(len(samples) * len(used) / len(some))
    return [sample for sample, _ in used], [example for _, example in used], total
