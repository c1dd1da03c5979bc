"""One row as readers of the published tokenizer and template should read it too."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from luthier.data.rendering.drafts import Piece
from luthier.data.rendering.template import ChatTemplate, TemplateText, message_dicts
from luthier.data.tokens.tokenizer import Tokenizer
from luthier.data.types import Conversation, Feedback, Message, Sample, Text


class _Renders(Protocol):
    """The part of `luthier.data.rendering.render.Renderer` that is needed here."""

    tokenizer: Tokenizer
    template: TemplateText | None

    def explain(self, sample: Sample) -> list[list[Piece]]: ...

    def placed(self, messages: tuple[Message, ...]) -> tuple[Message, ...]: ...


@dataclass(frozen=True)
class Published:
    """A row in two forms.

    Args:
        text: What is learned from, control tokens written out.
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


def published(renderer: _Renders, sample: Sample) -> Published | None:
    """Both forms of a row; None where its content holds control markup, which luthier reads as text.

    Raises:
        TemplateError: The row cannot be rendered.
    """
    sequences = renderer.explain(sample)
    pieces = [piece for piece in sequences[0] if piece.kind not in ("bos", "eos")]
    text = "".join(piece.text for piece in pieces)
    ids = [int(number) for piece in pieces for number in piece.ids]
    if not text or renderer.tokenizer.encode(text, parse_special=True).tolist() != ids:
        return None
    template, messages = renderer.template, _messages(sample)
    if template is None or not messages:
        return Published(text, ids, [], None, {})
    clock = ChatTemplate(  # as it is read now: a template may write the date
        template.source, tokenizer=renderer.tokenizer, now=datetime.now(), kwargs=template.kwargs
    )
    placed = renderer.placed(messages)
    rendered = clock.render(placed, add_generation_prompt=False)
    return Published(text, ids, message_dicts(placed), rendered, dict(template.kwargs))


def _messages(sample: Sample) -> tuple[Message, ...]:
    """What is rendered by the template as it is published; rows with tools may have another."""
    if isinstance(sample, Text | Feedback) or sample.tools or sample.template_kwargs:
        return ()
    if isinstance(sample, Conversation):
        return sample.messages
    return (*sample.prompt, *sample.chosen)
