"""A few training rows as somebody else can check them: messages, text and ids."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from luthier.data.rendering.render import Renderer
from luthier.data.rendering.template import ChatTemplate, message_dicts
from luthier.data.types import Conversation, Feedback, Message, Sample, Text
from luthier.errors import LuthierError

ROWS = 4


@dataclass(frozen=True)
class Row:
    """One row in two forms.

    Args:
        text: What was learned from, control tokens written out.
        ids: Of that text, as training reads it.
        messages: As templates see them; empty without a template.
        rendered: What the template makes of them, or None.
        kwargs: Arguments of the template.
    """

    text: str
    ids: list[int]
    messages: list[dict[str, Any]]
    rendered: str | None
    kwargs: dict[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def rows_to_check(renderer: Renderer, samples: Sequence[Sample]) -> list[Row]:
    """The first rows that every reader of the published tokenizer should read alike.

    Rows whose content holds control markup are left out: there luthier reads text on purpose.
    """
    found: list[Row] = []
    for sample in samples:
        if len(found) == ROWS:
            break
        try:
            row = _row(renderer, sample)
        except LuthierError:  # a row that cannot be rendered is accounted for by the ledger
            continue
        if row is not None:
            found.append(row)
    return found


def _row(renderer: Renderer, sample: Sample) -> Row | None:
    sequences = renderer.explain(sample)
    pieces = [piece for piece in sequences[0] if piece.kind not in ("bos", "eos")]
    text = "".join(piece.text for piece in pieces)
    ids = [int(number) for piece in pieces for number in piece.ids]
    if not text or renderer.tokenizer.encode(text, parse_special=True).tolist() != ids:
        return None
    template, messages = renderer.template, _messages(sample)
    if template is None or not messages:
        return Row(text, ids, [], None, {})
    clock = ChatTemplate(  # as it is read now: a template may write the date
        template.source, tokenizer=renderer.tokenizer, now=datetime.now(), kwargs=template.kwargs
    )
    placed = renderer.placed(messages)
    rendered = clock.render(placed, add_generation_prompt=False)
    return Row(text, ids, message_dicts(placed), rendered, dict(template.kwargs))


def _messages(sample: Sample) -> tuple[Message, ...]:
    """What is rendered by the template as it is published; rows with tools may have another."""
    if isinstance(sample, Text | Feedback) or sample.tools or sample.template_kwargs:
        return ()
    if isinstance(sample, Conversation):
        return sample.messages
    return (*sample.prompt, *sample.chosen)
