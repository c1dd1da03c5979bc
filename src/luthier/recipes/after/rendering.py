"""How a model's dialogues become text: the tokenizer, template and arguments of its training."""

from collections.abc import Sequence
from dataclasses import dataclass

from luthier.data.formats.messages import read_messages
from luthier.data.formats.tools import UnusableRowError
from luthier.data.rendering.render import Renderer
from luthier.data.tokens.tokenizer import Tokenizer
from luthier.data.types import Message
from luthier.errors import FormatError
from luthier.recipes.before.opening import open_dialogue
from luthier.recipes.before.recorded import recorded_rendering
from luthier.sources.source import ModelSource


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
    renderer, notices = open_dialogue(source)
    said = recorded_rendering(source).get("system_prompt")
    system_prompt = said if isinstance(said, str) else None
    return Rendering(renderer.tokenizer, renderer, system_prompt, list(notices))


def read_dialogue(messages: Sequence[object]) -> list[Message]:
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
