"""How a model's dialogues become text: the tokenizer, template and arguments of its training."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from luthier.data.formats.messages import read_messages
from luthier.data.formats.tools import UnusableRowError
from luthier.data.rendering.render import Renderer
from luthier.data.rendering.template import choose_template
from luthier.data.tokens.tokenizer import Tokenizer
from luthier.data.types import Message
from luthier.errors import FormatError
from luthier.recipes.before.tokens import open_tokenizer
from luthier.sources.source import ModelSource

UNLIMITED = 2**24


@dataclass(frozen=True)
class Rendering:
    """What is needed to turn messages into tokens; no weights.

    Args:
        system_prompt: The one of the training, if any.
        notices: What was chosen for the user.
    """

    tokenizer: Tokenizer
    renderer: Renderer
    system_prompt: str | None
    notices: list[str]


def open_rendering(source: ModelSource) -> Rendering:
    """Rendering as in the training of this result; a base model's own otherwise."""
    recorded = recorded_rendering(source)
    tokenizer = open_tokenizer(source)
    now = recorded.get("now")
    template, notice = None, None
    if recorded.get("apply_chat_template", True):
        template, notice = choose_template(
            tokenizer,
            setting=recorded.get("chat_template"),
            gallery_template=source.family.chat_template,
            now=datetime.fromisoformat(now) if now else datetime.now(UTC),
            kwargs=recorded.get("chat_template_kwargs"),
        )
    renderer = Renderer(
        tokenizer,
        template,
        objective="sft",
        train_on=None,
        system_prompt=None,
        seq_length=UNLIMITED,
        truncation="refuse",
    )
    return Rendering(tokenizer, renderer, recorded.get("system_prompt"), [notice] if notice else [])


def recorded_rendering(source: ModelSource) -> dict[str, Any]:
    """How rows became text in the training of this result; empty if nothing is known."""
    for folder in (source.adapter, source.base):
        path = folder / "rendering.json" if folder else None
        if path and path.is_file():
            body: dict[str, Any] = json.loads(path.read_text("utf-8"))
            return body
    return {}


def read_dialogue(messages: Sequence[Any]) -> list[Message]:
    """Messages as a client sends them: objects with a role and a content.

    Raises:
        FormatError: With the number of the message and what is wrong with it.
    """
    try:
        return read_messages(list(messages))
    except UnusableRowError as error:
        raise FormatError(
            f"messages cannot be read: {error}",
            why="each message has a role and a content",
            fix='[{"role": "user", "content": "..."}]',
        ) from error
