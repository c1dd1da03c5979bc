"""Rows to measure on: read once, rendered as in training, with what can be asked of each."""

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from luthier.config.settings import Settings
from luthier.data.load import Loaded, load_samples
from luthier.data.prepare import prepare, refuse_bad
from luthier.data.reading.read import read_rows, survey
from luthier.data.rendering.render import Renderer
from luthier.data.types import (
    BadRow,
    Conversation,
    Example,
    Feedback,
    Message,
    Origin,
    Preference,
    Row,
    Sample,
    Text,
)
from luthier.data.types import (
    Sequence as TokenSequence,
)
from luthier.errors import DataError, FormatError
from luthier.evaluation.questions import Question, question_of_chat, read_question
from luthier.recipes.before.opening import open_run
from luthier.sources.source import ModelSource

Kind = Literal["chats", "texts", "pairs", "labels", "options"]


@dataclass(frozen=True)
class Item:
    """One row.

    Attributes:
        messages: What is asked, to be answered in writing; empty where nothing is.
        expected: The answer of the row.
        question: Where there are options to choose from.
    """

    origin: Origin
    prompt: str
    expected: str
    messages: tuple[Message, ...] = ()
    tools: tuple[Mapping[str, object], ...] = ()
    template_kwargs: Mapping[str, object] | None = None
    question: Question | None = None


@dataclass(frozen=True)
class Task:
    """Rows, ready to be scored by one model.

    Attributes:
        settings: With the objective that these rows have.
        examples: One an item, to be scored whole; empty where there are only options.
        choices: One an item, with a sequence for each option; empty where there are none.
        report: Rows read, used, cut and dropped.
    """

    kind: Kind
    settings: Settings
    renderer: Renderer
    items: list[Item]
    examples: list[Example]
    choices: list[Example]
    report: dict[str, int]
    supervised_tokens: int
    notices: list[str] = field(default_factory=list)

    @property
    def longest(self) -> int:
        """Tokens of the largest example."""
        sizes = (sum(len(s.ids) for s in e.sequences) for e in (*self.examples, *self.choices))
        return max(sizes)

    def only(self, origins: Collection[Origin]) -> "Task":
        """The same with some of its rows."""
        kept = [item for item in self.items if item.origin in origins]
        left = {**self.report, "used": len(kept)}
        return dataclasses.replace(
            self,
            items=kept,
            examples=[one for one in self.examples if one.origin in origins],
            choices=[one for one in self.choices if one.origin in origins],
            report=left,
        )


def open_task(settings: Settings, source: ModelSource, recorded: Mapping[str, object]) -> Task:
    """The rows that `dataset` of the settings names, as this model reads them.

    Args:
        recorded: How the training of the model made its text; empty for a model without one.

    Raises:
        FormatError: Files hold rows of different kinds.
        LuthierError: As in training: tokenizer, template or rows cannot be used.
    """
    questions, notices = _questions(settings)
    if questions:
        return _options(settings, source, recorded, questions, notices)
    loaded = load_samples(
        list(settings.dataset), columns=settings.columns, encoding=settings.encoding, objective=None
    )
    kind = _kind(loaded.samples)
    unlike = {"text": kind != "texts"}.get(settings.objective, kind == "labels")
    if kind is None or (unlike and settings.objective != "kto"):
        # The sentence of training, which names what is in the way.
        load_samples(list(settings.dataset), columns=settings.columns, objective=settings.objective)
        raise _mixed(settings.dataset)
    text = kind == "texts" and settings.objective == "text"
    named = {"pairs": "dpo", "labels": "kto"}
    objective = named.get(kind, "text" if text else "sft")
    settings = settings.model_copy(update={"objective": objective})
    opening = open_run(settings, source, recorded=dict(recorded), rows=loaded)
    prepared = prepare(loaded, opening.renderer, bad_rows=settings.bad_rows, role="eval")
    samples = {sample.origin: sample for sample in loaded.samples}
    items = [_item(samples[example.origin]) for example in prepared.examples]
    task = Task(
        kind,
        settings,
        opening.renderer,
        items,
        prepared.examples,
        [],
        {name: prepared.report["rows"][name] for name in ("read", "used", "cut", "dropped")},
        prepared.report["supervised_tokens"],
        [*opening.notices, *prepared.notices],
    )
    if kind == "chats" and all(item.question for item in items):
        choices, _ = _choices(settings, source, recorded, items)
        if len(choices) == len(items):
            return dataclasses.replace(task, choices=choices)
        short = len(items) - len(choices)
        task.notices.append(
            f"no choice is measured: {short} questions with options do not fit into {settings.seq_length} tokens"
        )
    return task


def _kind(samples: Sequence[Sample]) -> Kind | None:
    kinds = {type(sample) for sample in samples}
    if kinds == {Preference}:
        return "pairs"
    if kinds == {Feedback}:
        return "labels"
    if kinds == {Text}:
        return "texts"
    return "chats" if kinds and kinds <= {Conversation, Text} else None


def _item(sample: Sample) -> Item:
    if isinstance(sample, Preference):
        chosen = "\n".join(message.content for message in sample.chosen)
        return Item(sample.origin, _shown(sample.prompt), chosen)
    if isinstance(sample, Feedback):  # its answer may be one that nobody should write
        return dataclasses.replace(_item(sample.conversation), messages=(), question=None)
    if not isinstance(sample, Conversation):
        assert isinstance(sample, Text)
        return Item(sample.origin, "", sample.text)
    last = max(n for n, m in enumerate(sample.messages) if m.role == "assistant")
    before, answer = sample.messages[:last], sample.messages[last]
    asked = before if any(m.role == "user" for m in before) else ()
    return Item(
        sample.origin,
        _shown(before),
        answer.content,
        asked if answer.content else (),  # a call of a tool is no text to compare with
        sample.tools,
        sample.template_kwargs,
        question_of_chat(sample) if last == len(sample.messages) - 1 else None,
    )


def _shown(messages: Sequence[Message]) -> str:
    """The text of one question; with roles where there are several turns."""
    if len(messages) == 1:
        return messages[0].content
    return "\n".join(f"{message.role}: {message.content}" for message in messages)


def _questions(settings: Settings) -> tuple[list[Question | BadRow], list[str]]:
    """The rows as questions with options; empty where they are something else."""
    if settings.columns:
        return [], []  # somebody says what the columns are
    found = survey(list(settings.dataset))
    made: list[Question | BadRow] = []
    others: list[Path] = []
    for path in found.paths:
        mine = _questions_of(path, settings.encoding)
        made += mine
        others += [] if mine else [path]
    if made and others:
        raise _mixed([str(path) for path in found.paths])
    return made, list(found.notices)


def _questions_of(path: Path, encoding: str | None) -> list[Question | BadRow]:
    made: list[Question | BadRow] = []
    for row in read_rows(path, encoding=encoding):
        question = read_question(row) if isinstance(row, Row) else row
        if question is None:
            if not made or all(isinstance(one, BadRow) for one in made):
                return []
            question = BadRow(row.origin, "it has no options, and rows before it have")
        made.append(question)
    return made if any(isinstance(one, Question) for one in made) else []


def _mixed(names: Sequence[str]) -> FormatError:
    return FormatError(
        f"{', '.join(names)[:300]}: rows of several kinds",
        why="chats, pairs and questions with options are measured each by metrics of their own",
        fix="measure the files of each kind by themselves",
    )


def _options(
    settings: Settings,
    source: ModelSource,
    recorded: Mapping[str, object],
    questions: Sequence[Question | BadRow],
    notices: list[str],
) -> Task:
    bad = [one for one in questions if isinstance(one, BadRow)]
    asked = [one for one in questions if isinstance(one, Question)]
    items = [
        Item(
            one.origin,
            one.messages[-1].content,
            one.options[one.right],
            one.messages,
            (),
            None,
            one,
        )
        for one in asked
    ]
    choices, renderer = _choices(settings, source, recorded, items)
    used = {example.origin for example in choices}
    bad += [BadRow(i.origin, "its options cannot be told apart, or are too long")
            for i in items if i.origin not in used]  # fmt: skip
    refuse_bad(bad, len(questions), bad_rows=settings.bad_rows, role="eval")
    items = [item for item in items if item.origin in used]
    said = [f"{one.origin} is left out: {one.reason}" for one in bad[:20]]
    return Task(
        "options",
        settings.model_copy(update={"objective": "sft"}),
        renderer,
        items,
        [],
        choices,
        {"read": len(questions), "used": len(items), "cut": 0, "dropped": len(bad)},
        int(sum((s.weights > 0).sum() for e in choices for s in e.sequences)),
        [*notices, *said],
    )


def _choices(
    settings: Settings, source: ModelSource, recorded: Mapping[str, Any], items: Sequence[Item]
) -> tuple[list[Example], Renderer]:
    """A sequence for each option of each item, its tokens alone learned; ends are left out.

    Items whose options do not differ in tokens, or do not fit, are not among them.
    """
    settings = settings.model_copy(
        update={"objective": "sft", "train_on": "last_assistant", "truncation": "drop"}
    )
    renderer = open_run(
        settings, source, recorded=dict(recorded), rows=Loaded([], {}, [], [])
    ).renderer
    asked = [item.question for item in items if item.question is not None]
    options = [one.with_option(n) for one in asked for n in range(len(one.options))]
    rendered = renderer.render_each(options)
    made = []
    for question in asked:
        sequences = []
        for _ in question.options:
            option = next(rendered)
            if isinstance(option, DataError):
                raise option
            if isinstance(option, Example):
                sequences.append(_without_end(option.sequences[-1], renderer.stop_ids))
        if len(sequences) == len(question.options) and all(s.weights.any() for s in sequences):
            made.append(Example(tuple(sequences), question.origin))
    return made, renderer


def _without_end(sequence: TokenSequence, stop_ids: frozenset[int]) -> TokenSequence:
    """The sequence with the tokens that end the answer not counted."""
    weights = sequence.weights.copy()
    learned = np.flatnonzero(weights)
    ends = [place for place in learned if int(sequence.ids[place]) in stop_ids]
    if ends:
        weights[ends[-1] :] = 0.0
    return dataclasses.replace(sequence, weights=weights)
