"""The data doctor with the tokenizer and template of a run: `luthier data check`."""

from collections.abc import Sequence
from datetime import UTC, datetime

from luthier.config.read import Resolved
from luthier.config.settings import Settings
from luthier.data.doctor import Report, check, head_samples, objective_of
from luthier.data.doctor.stream import Progress
from luthier.data.rendering.probe import probe
from luthier.data.rendering.render import Renderer
from luthier.data.rendering.template import choose_template
from luthier.data.tokens.tokenizer import Tokenizer
from luthier.data.types import Sample
from luthier.recipes.before.inputs import context_length, make_renderer, template_source, thought_of
from luthier.recipes.before.tokens import open_tokenizer
from luthier.sources.source import ModelSource, resolve_source


def check_data(resolved: Resolved, *, progress: Progress | None = None) -> Report:
    """Look at every row of `dataset` as a run with these settings would get it.

    Without an objective that somebody gave, it is the one that most of the first rows are for.
    Nothing is loaded of the model but its config, tokenizer and template.

    Raises:
        LuthierError: The model or a file cannot be found; what is wrong inside a file is a finding.
    """
    settings = resolved.settings
    source = resolve_source(settings.model, revision=settings.revision)
    tokenizer = open_tokenizer(source)
    columns, encoding = settings.columns, settings.encoding
    if resolved.provenance.get("objective", "default") == "default":
        first = head_samples(settings.dataset, columns=columns, encoding=encoding)
        settings = settings.model_copy(update={"objective": objective_of(first)})
    return check(
        settings.dataset,
        renderer=_renderer(settings, source, tokenizer),
        objective=settings.objective,
        columns=columns,
        encoding=encoding,
        held_out=settings.eval_dataset or (),
        context=context_length(source.config),
        hidden_size=_hidden_size(source),
        model=settings.model,
        progress=progress,
    )


def _renderer(settings: Settings, source: ModelSource, tokenizer: Tokenizer) -> Renderer:
    """Training's own renderer."""
    now = datetime.now(UTC)
    renderer, notices = make_renderer(
        settings,
        tokenizer,
        gallery_template=source.family.chat_template,
        now=now,
        seq_length=settings.seq_length,
        samples=_tells_thinking(settings, source, tokenizer, now),
    )
    renderer.notices[:0] = notices
    return renderer


def _tells_thinking(
    settings: Settings, source: ModelSource, tokenizer: Tokenizer, now: datetime
) -> Sequence[Sample]:
    """One sample that says whether any answer thinks, where the template asks for that."""
    if not settings.apply_chat_template:
        return ()
    template, _ = choose_template(
        tokenizer,
        setting=template_source(settings.chat_template),
        gallery_template=source.family.chat_template,
        now=now,
        kwargs=settings.chat_template_kwargs,
    )
    facts = probe(template, tokenizer)
    if not (facts.thinking_switch or facts.thinking_on):
        return ()
    first: Sample | None = None
    every = head_samples(
        settings.dataset, columns=settings.columns, encoding=settings.encoding, most=None
    )
    for sample in every:
        first = first or sample
        if thought_of(sample):
            return (sample,)
    return () if first is None else (first,)


def _hidden_size(source: ModelSource) -> int | None:
    text = source.config.get("text_config", source.config)
    found = text.get("hidden_size", text.get("n_embd")) if isinstance(text, dict) else None
    return found if isinstance(found, int) and found > 0 else None
