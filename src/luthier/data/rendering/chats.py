"""Which template writes a row: the usual one, the one for tools, or either with the row's arguments.

Each is probed once and has its own check of what it keeps.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from luthier.data.rendering.chat_text import ChatText
from luthier.data.rendering.kept import Kept
from luthier.data.rendering.probe import TemplateFacts, probe
from luthier.data.rendering.template import ChatTemplate
from luthier.data.tokens.tokenizer import Tokenizer
from luthier.data.types import Message, Preference
from luthier.errors import TemplateError

_MOST = 256  # sets of arguments


class Chat(NamedTuple):
    """One way to write conversations, and the check of what it writes."""

    text: ChatText
    kept: Kept

    @property
    def facts(self) -> TemplateFacts:
        """What the template does."""
        return self.text.facts


class Chats:
    """The ways in which the rows of a run are written.

    Attributes:
        usual: Without tools and arguments.
        notices: What to tell the user of each template, in the order in which it came up.
        stop_ids: Ids that end an answer: of the tokenizer and of every template used so far.

    Raises:
        TemplateError: A template leaves out user or assistant text altogether.
    """

    def __init__(self, template: ChatTemplate, tokenizer: Tokenizer) -> None:
        self._template, self._tokenizer = template, tokenizer
        self._made: dict[str, Chat] = {}
        self.notices: list[str] = []
        self.stop_ids = tokenizer.stop_ids
        self.usual = self._make(template)
        self._for_tools = self._make(template.for_tools) if template.for_tools else None

    def of(self, tools: Sequence[Any], kwargs: Mapping[str, Any] | None = None) -> Chat:
        """How a row with these tools and arguments is written."""
        if not kwargs:
            return self._for_tools if tools and self._for_tools else self.usual
        key = repr((bool(tools) and self._for_tools is not None, sorted(kwargs.items())))
        if key not in self._made:
            template = self._template.with_kwargs(kwargs)
            chosen = template.for_tools if tools and template.for_tools else template
            if len(self._made) >= _MOST:
                self._made.clear()
            self._made[key] = self._make(chosen)
        return self._made[key]

    def _make(self, template: ChatTemplate) -> Chat:
        facts = probe(template, self._tokenizer)
        self._announce(facts)
        text = ChatText(template, self._tokenizer, facts)
        return Chat(text, Kept(text))

    def _announce(self, facts: TemplateFacts) -> None:
        tokenizer = self._tokenizer
        if facts.terminator is not None:
            self.stop_ids = self.stop_ids | {tokenizer.special_tokens[facts.terminator]}
        elif tokenizer.eos_id is not None:
            self._notice(
                f"the chat template ends answers with no control token: {tokenizer.eos} is added"
            )
        else:
            self._notice("neither template nor tokenizer has a token that ends an answer")
        if facts.header:
            self._notice(
                f"the chat template has no generation prompt: {facts.header!r} is put before answers"
            )

    def _notice(self, text: str) -> None:
        if text not in self.notices:
            self.notices.append(text)


def require(facts: TemplateFacts, messages: Sequence[Message], tools: Sequence[object]) -> None:
    """Refuse what a template has no place for in any row.

    Raises:
        TemplateError: It writes no tools, calls or results, and the row has them.
    """
    missing = {
        "the tools offered": bool(tools) and not facts.tools,
        "tool calls": any(message.tool_calls for message in messages) and not facts.calls,
        "results of tools": any(message.role == "tool" for message in messages)
        and not facts.results,
    }
    if found := [name for name, lost in missing.items() if lost]:
        raise TemplateError(
            f"the chat template has no place for {', '.join(found)}, which the rows have",
            why="they would be left out in silence, and the answers would make no sense",
            fix="chat_template: FILE.jinja with one that writes them, or rows without tools",
        )


def require_pair(sample: Preference, chat: "Chat | None") -> None:
    """As `require`, of both sides of a pair; nothing without a template."""
    if chat is not None:
        for side in (sample.chosen, sample.rejected):
            require(chat.facts, (*sample.prompt, *side), sample.tools)
