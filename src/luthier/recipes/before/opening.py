"""Where the rows of a run are opened: its tokenizer, template, rows and the length they are cut to.

Training, plan, doctor, preview, advice, estimate, evaluation, export and chat all come through
here, so that what one of them says of a row is true of the others.  A limit is never the setting
alone: no row is longer than the positions of the model.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from luthier.config.settings import Settings
from luthier.data.limited.opening import expect, open_renderer
from luthier.data.load import Loaded, load_samples
from luthier.data.rendering.probe import thinking_kwargs
from luthier.data.rendering.render import UNLIMITED, Renderer
from luthier.data.tokens.tokenizer import Tokenizer
from luthier.data.types import Conversation, Message, Preference, Sample
from luthier.errors import TemplateError
from luthier.gallery import all_families, context_length
from luthier.recipes.before.recorded import recorded_rendering
from luthier.recipes.before.tokens import open_tokenizer
from luthier.sources.source import ModelSource

Samples = Callable[[], Iterable[Sample]]


@dataclass(frozen=True)
class Opening:
    """The rows of a run, read, and what turns them into tokens.

    Args:
        renderer: Training's own.
        rows: Those of `dataset`; empty where they are not to be held in memory.
        limit: Most tokens of a sequence: `seq_length`, or the model's positions where those are
            fewer.
        context: Positions of the model; None where its config names none.
        now: The clock that templates read.
        notices: What was chosen, and has to be said.
    """

    settings: Settings
    source: ModelSource
    tokenizer: Tokenizer
    renderer: Renderer
    rows: Loaded
    limit: int
    context: int | None
    now: datetime
    notices: tuple[str, ...] = field(default=())


def open_run(
    settings: Settings,
    source: ModelSource,
    *,
    now: datetime | None = None,
    whole: bool = False,
    rows: Loaded | None = None,
    first: Samples | None = None,
    recorded: Mapping[str, Any] | None = None,
) -> Opening:
    """Open the rows that the settings name, for a model.

    Args:
        now: The clock that templates read; None is the time of `recorded`, or this moment.
        whole: Whether rows stay whole, to be measured; otherwise they are cut as in training.
        rows: What `load_rows` read already.
        first: Gives samples one after the other where the rows are too many to be held; asked
            only whether any of them thinks.
        recorded: How a finished training made its text, as `recorded_rendering` reads it; empty
            or None for a model that has none.

    Raises:
        LuthierError: Tokenizer, template or rows cannot be used.
    """
    tokenizer = open_tokenizer(source)
    if settings.apply_chat_template:
        setting = template_source(settings.chat_template)
        expect(tokenizer, setting=setting, gallery_template=source.family.chat_template)
    limit, notices = cut_length(settings, source.config)
    if whole:
        limit, notices = UNLIMITED, []
    if rows is None:
        rows = Loaded([], {}, [], []) if first is not None else load_rows(settings)
    held = rows.samples
    if recorded:
        names = ("apply_chat_template", "chat_template", "chat_template_kwargs", "system_prompt")
        known = {name: recorded[name] for name in names if name in recorded}
        settings = settings.model_copy(update=known)
        now = now or (datetime.fromisoformat(recorded["now"]) if "now" in recorded else None)
    now = now or datetime.now(UTC)
    renderer, said = make_renderer(
        settings,
        tokenizer,
        gallery_template=source.family.chat_template,
        now=now,
        seq_length=limit,
        # A finished training has decided already whether its prompts ask for thought.
        samples=None if recorded else (first or (lambda: held)),
    )
    context = context_length(source.config)
    said = (*notices, *said)
    return Opening(settings, source, tokenizer, renderer, rows, limit, context, now, said)


def open_dialogue(source: ModelSource) -> tuple[Renderer, tuple[str, ...]]:
    """A renderer for prompts alone, as in the training of this result; a base model's own otherwise.

    The system prompt of the training is not put in: whoever asks decides.
    """
    recorded = recorded_rendering(source)
    then = recorded.get("now")
    names = ("apply_chat_template", "chat_template", "chat_template_kwargs")
    settings = Settings(model=source.name, dataset=("none",), truncation="refuse").model_copy(
        update={name: recorded[name] for name in names if name in recorded}
    )
    return make_renderer(
        settings,
        open_tokenizer(source),
        gallery_template=source.family.chat_template,
        now=datetime.fromisoformat(str(then)) if then else datetime.now(UTC),
        seq_length=UNLIMITED,
    )


def load_rows(settings: Settings, files: Iterable[str] | None = None) -> Loaded:
    """The samples of some files, or of `dataset`, as the settings say they are to be read."""
    return load_samples(
        list(settings.dataset if files is None else files),
        columns=settings.columns,
        encoding=settings.encoding,
        objective=settings.objective,
    )


def cut_length(settings: Settings, config: Mapping[str, Any]) -> tuple[int, list[str]]:
    """Most tokens of a sequence, and a sentence if the model holds fewer than were asked for.

    Args:
        config: The model's `config.json`, or the gallery's excerpt of it.
    """
    context = context_length(config)
    if context is None or settings.seq_length <= context:
        return settings.seq_length, []
    asked = settings.seq_length
    return context, [f"seq_length {asked} is more than the model's {context}: {context} is used"]


def make_renderer(
    settings: Settings,
    tokenizer: Tokenizer,
    *,
    gallery_template: str | None,
    now: datetime,
    seq_length: int,
    samples: Samples | None = None,
) -> tuple[Renderer, tuple[str, ...]]:
    """The renderer that all share, and what has to be said about it.

    Args:
        samples: Gives what will be rendered; where none of it thinks, neither does the prompt of
            a template that can be told so.  Called only for such a template.
    """

    def make(kwargs: dict[str, Any]) -> tuple[Renderer, str | None]:
        return open_renderer(
            tokenizer,
            {
                "objective": settings.objective,
                "train_on": settings.train_on,
                "system_prompt": settings.system_prompt,
                "seq_length": seq_length,
                "truncation": settings.truncation,
            },
            apply=settings.apply_chat_template,
            setting=template_source(settings.chat_template),
            gallery_template=gallery_template,
            now=now,
            kwargs=kwargs,
        )

    given = settings.chat_template_kwargs
    renderer, notice = make(given)
    notices = [notice] if notice else []
    facts = renderer.facts
    if samples is not None and facts is not None and (facts.thinking_switch or facts.thinking_on):
        seen, thought = _thinks(samples())
        kwargs = thinking_kwargs(facts, given, [thought]) if seen else given
        if kwargs != given:
            renderer, _ = make(kwargs)
            thinks = bool(kwargs["enable_thinking"])
            whose = "answers of the data think" if thinks else "no answer of the data thinks"
            notices.append(f"{whose}: enable_thinking: {str(thinks).lower()} is used")
    return renderer, tuple(notices)


def _thinks(samples: Iterable[Sample]) -> tuple[bool, str | None]:
    """Whether there is a sample, and the first thought of any."""
    seen = False
    for sample in samples:
        seen = True
        if thought := thought_of(sample):
            return True, thought
    return seen, None


def thought_of(sample: Sample) -> str | None:
    """Reasoning in any answer of a sample, in a field of its own or written out."""
    messages: tuple[Message, ...] = ()
    if isinstance(sample, Conversation):
        messages = sample.messages
    elif isinstance(sample, Preference):
        messages = (*sample.prompt, *sample.chosen, *sample.rejected)
    for message in messages:
        if message.role == "assistant" and (message.reasoning or "think>" in message.content):
            return message.reasoning or message.content
    return None


def template_source(setting: str | None) -> str | None:
    """The Jinja text that `chat_template` means: the text itself, a file's, or a gallery family's.

    Raises:
        TemplateError: It is none of the three.
    """
    if setting is None or "{%" in setting or "{{" in setting:
        return setting
    path = Path(setting)
    if path.is_file():
        return path.read_text("utf-8")
    families = {family.name: family for family in all_families() if family.templates}
    if setting in families:
        return families[setting].templates[0].text
    raise TemplateError(
        f"chat_template: {setting} is no Jinja text, no file and no family with a template",
        why="Jinja text has {{ or {% in it; families with a template: " + ", ".join(families),
        fix="--chat_template PATH/TO/template.jinja",
    )
