"""The data of a run: read, rendered and counted before any weight is loaded."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from luthier.config.settings import Settings
from luthier.data.load import Loaded, load_samples
from luthier.data.prepare import overlap, prepare
from luthier.data.rendering.probe import thinking_kwargs
from luthier.data.rendering.render import Renderer
from luthier.data.rendering.template import ChatTemplate, choose_template
from luthier.data.tokens.tokenizer import Tokenizer
from luthier.data.types import Conversation, Example, Message, Preference, Sample
from luthier.durable import write_atomic
from luthier.errors import NoRowsError, TemplateError
from luthier.gallery import all_families
from luthier.runs import RunDirectory

FIRST = 16
"""Samples that are kept beside their examples, to show and to check by."""


@dataclass
class Inputs:
    """Examples to learn from and to hold out, and how they were made.

    Args:
        first: A few of the samples that were rendered, in their order.
    """

    tokenizer: Tokenizer
    template: ChatTemplate | None
    train: list[Example]
    held_out: list[Example]
    report: dict[str, Any]
    ledger: list[dict[str, Any]]
    notices: list[str] = field(default_factory=list)
    fingerprints: dict[str, str] = field(default_factory=dict)
    renderer: Renderer | None = None
    first: Sequence[Sample] = ()

    def longest_sample(self) -> int:
        """Tokens of the largest sample, its sequences added up."""
        everything = [*self.train, *self.held_out]
        return max(sum(len(s.ids) for s in example.sequences) for example in everything)

    def longest_sequence(self) -> int:
        """Tokens of the longest sequence."""
        everything = [*self.train, *self.held_out]
        return max(len(s.ids) for example in everything for s in example.sequences)

    def write(self, run: RunDirectory) -> None:
        """`data.json` and `ledger.jsonl`."""
        write_atomic(run.data_file, json.dumps(self.report, indent=2, ensure_ascii=False) + "\n")
        lines = [json.dumps(line, ensure_ascii=False) + "\n" for line in self.ledger]
        write_atomic(run.ledger_file, "".join(lines))


def make_renderer(
    settings: Settings,
    tokenizer: Tokenizer,
    *,
    gallery_template: str | None,
    now: datetime,
    seq_length: int,
    samples: Sequence[Sample] = (),
) -> tuple[Renderer, list[str]]:
    """The renderer that training, preview and chat share, and what has to be said about it.

    Args:
        samples: What will be rendered; where none of it thinks, neither does the prompt of a
            template that can be told so.
    """

    def make(kwargs: dict[str, Any]) -> tuple[Renderer, str | None]:
        template, notice = None, None
        if settings.apply_chat_template:
            template, notice = choose_template(
                tokenizer,
                setting=template_source(settings.chat_template),
                gallery_template=gallery_template,
                now=now,
                kwargs=kwargs,
            )
        renderer = Renderer(
            tokenizer,
            template,
            objective=settings.objective,
            train_on=settings.train_on,
            system_prompt=settings.system_prompt,
            seq_length=seq_length,
            truncation=settings.truncation,
        )
        return renderer, notice

    given = settings.chat_template_kwargs
    renderer, notice = make(given)
    notices = [notice] if notice else []
    if renderer.facts is not None and samples:
        kwargs = thinking_kwargs(renderer.facts, given, [thought_of(s) for s in samples])
        if kwargs != given:
            renderer, _ = make(kwargs)
            thinks = bool(kwargs["enable_thinking"])
            whose = "answers of the data think" if thinks else "no answer of the data thinks"
            notices.append(f"{whose}: enable_thinking: {str(thinks).lower()} is used")
    return renderer, notices


def thought_of(sample: Sample) -> str | None:
    """Reasoning in any answer of a sample, in a field of its own or written out."""
    messages: Sequence[Message] = ()
    if isinstance(sample, Conversation):
        messages = sample.messages
    elif isinstance(sample, Preference):
        messages = (*sample.prompt, *sample.chosen, *sample.rejected)
    for message in messages:
        if message.role == "assistant" and (message.reasoning or "think>" in message.content):
            return message.reasoning or message.content
    return None


def context_length(config: dict[str, object]) -> int | None:
    """Positions that the model was built for."""
    text = config.get("text_config", config)
    assert isinstance(text, dict)
    for name in ("max_position_embeddings", "n_positions", "seq_length"):
        if isinstance(value := text.get(name), int):
            return value
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


def make_inputs(
    settings: Settings, renderer: Renderer, tokenizer: Tokenizer, rows: Loaded
) -> Inputs:
    """Render all data of the run.

    Args:
        rows: What `load_rows` read of `dataset`.

    Raises:
        DataError: And its kinds, each naming files, lines and reasons.
    """
    train = prepare(rows, renderer, bad_rows=settings.bad_rows, role="train")
    inputs = Inputs(
        tokenizer,
        renderer.template,
        train.examples,
        [],
        {"train": train.report},
        list(train.ledger),
        list(train.notices),
        {"data": train.fingerprint},
        renderer,
        tuple(rows.samples[:FIRST]),
    )
    if settings.eval_dataset:
        held_rows = load_rows(settings, settings.eval_dataset)
        held_out = prepare(held_rows, renderer, bad_rows=settings.bad_rows, role="eval")
        inputs.held_out = held_out.examples
        inputs.report["eval"] = held_out.report
        inputs.ledger += held_out.ledger
        inputs.notices += [f"eval_dataset: {notice}" for notice in held_out.notices]
        inputs.notices += _leaked(rows.samples, held_rows.samples, "eval_dataset")
        inputs.fingerprints["eval_data"] = held_out.fingerprint
    elif settings.eval_split:
        inputs.train, inputs.held_out = split(train.examples, settings.eval_split, settings.seed)
        inputs.report["eval"] = {"rows": len(inputs.held_out), "split_from": "dataset"}
        by_origin = {sample.origin: sample for sample in rows.samples}
        learned, held = (
            [by_origin[example.origin] for example in side]
            for side in (inputs.train, inputs.held_out)
        )
        inputs.notices += _leaked(learned, held, "eval_split")
        inputs.fingerprints["eval_data"] = f"split {settings.eval_split} seed {settings.seed}"
    return inputs


def load_rows(settings: Settings, files: Sequence[str]) -> Loaded:
    """The samples of some files, as the settings say they are to be read."""
    return load_samples(
        files,
        columns=settings.columns,
        encoding=settings.encoding,
        objective=settings.objective,
    )


def _leaked(train: Sequence[Sample], held_out: Sequence[Sample], where: str) -> list[str]:
    """A sentence if held-out rows are learned from, which makes their figures too good."""
    if not (count := overlap(train, held_out)):
        return []
    return [
        f"{where}: {count} of {len(held_out)} held-out rows are also learned from, "
        "so the figures on them say little"
    ]


def split(
    examples: Sequence[Example], amount: float, seed: int
) -> tuple[list[Example], list[Example]]:
    """Hold out a share (below 1) or a number of the samples, chosen by the seed, order kept.

    Raises:
        NoRowsError: Nothing would be left on one side.
    """
    wanted = round(amount * len(examples)) if amount < 1 else int(amount)
    wanted = max(1, wanted)
    if wanted >= len(examples):
        raise NoRowsError(
            f"eval_split={amount:g} would hold out {wanted} of {len(examples)} rows",
            why="at least one row must be left to learn from",
            fix="--eval_split 0.1",
        )
    order = np.random.Generator(np.random.Philox(key=seed)).permutation(len(examples))
    chosen = set(order[:wanted].tolist())
    train = [example for place, example in enumerate(examples) if place not in chosen]
    return train, [examples[place] for place in sorted(chosen)]


def rendering(settings: Settings, template: ChatTemplate | None, now: datetime) -> dict[str, Any]:
    """How rows became text: kept beside the result, so that chat and export render alike."""
    return {
        "apply_chat_template": settings.apply_chat_template,
        "chat_template": template.source if template else None,
        "chat_template_kwargs": template.kwargs if template else {},
        "system_prompt": settings.system_prompt,
        "objective": settings.objective,
        "now": now.isoformat(),
    }
