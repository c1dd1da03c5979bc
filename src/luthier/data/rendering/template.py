"""A chat template: messages in, the text the model reads out.

The same object renders for training, preview and chat.  The clock a template may read stands still
at the time of the run, so that the same row is the same text on every day.
"""

import copy
import datetime
import hashlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol, Self

import jinja2

from luthier.data.rendering.sandbox import Sandbox, plain
from luthier.data.rendering.values import METER, LimitReached, Meter
from luthier.data.types import Message, ToolCall
from luthier.errors import TemplateError
from luthier.limits import TEMPLATE_BYTES, TEMPLATE_TOKENS

CHATML = """{%- for message in messages -%}
{{- '<|im_start|>' + message.role + '\\n' -}}
{%- if message.tool_calls is defined -%}
{{- message.content + ('\\n' if message.content else '') -}}
{%- for call in message.tool_calls -%}
{{- '<tool_call>\\n' + (call.function | tojson) + '\\n</tool_call>' -}}
{%- if not loop.last -%}{{- '\\n' -}}{%- endif -%}
{%- endfor -%}
{%- else -%}
{{- message.content -}}
{%- endif -%}
{{- (TURN_END if message.role == 'assistant' else '<|im_end|>') + '\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{- '<|im_start|>assistant\\n' -}}
{%- endif -%}"""
"""The fallback for a model nobody knows: ChatML, whose tokens may be plain text to its tokenizer."""


_NO_TEMPLATE = (
    jinja2.exceptions.TemplateError,
    RecursionError,
    MemoryError,
    SyntaxError,
    ValueError,
    TypeError,
    AttributeError,
    ArithmeticError,
)
"""What Jinja and Python's compiler raise for a source that is none."""


class _HasTokens(Protocol):
    @property
    def roles(self) -> Mapping[str, str]: ...
    @property
    def special_tokens(self) -> Mapping[str, int]: ...
    @property
    def chat_template(self) -> str | None: ...
    @property
    def other_templates(self) -> Mapping[str, str]: ...
    @property
    def eos(self) -> str: ...


class RowTemplateError(TemplateError):
    """The template does not take these messages; another row may be fine."""


class TemplateText:
    """A template as text, with its tokens, arguments and time; nothing of it is run.

    Args:
        source: Jinja text.
        tokenizer: Gives `bos_token` and the others to the template.
        now: What `strftime_now` reads.
        kwargs: Arguments of the user, such as `enable_thinking`.
        name: Where it comes from, as messages say it.

    Attributes:
        for_tools: The template that takes the place of this one for rows with tools, if any.
    """

    def __init__(
        self,
        source: str,
        *,
        tokenizer: _HasTokens,
        now: datetime.datetime,
        kwargs: Mapping[str, Any] | None = None,
        name: str = "",
    ) -> None:
        self.name = name
        self.for_tools: Self | None = None
        self.source, self.now, self.kwargs = source, now, dict(plain(kwargs or {}))
        self._tokens = dict(tokenizer.roles)

    def with_kwargs(self, kwargs: Mapping[str, Any]) -> Self:
        """The same template with these arguments over its own."""
        made = copy.copy(self)
        made.kwargs = {**self.kwargs, **plain(kwargs)}
        if self.for_tools is not None:
            made.for_tools = self.for_tools.with_kwargs(kwargs)
        return made

    @property
    def fingerprint(self) -> str:
        """SHA-256 over source, tokens, arguments and, where it is read, the time."""
        clock = self.now if "strftime_now" in self.source else None
        parts: tuple[Any, ...] = (
            self.source,
            sorted(self._tokens.items()),
            sorted(self.kwargs.items()),
            clock,
        )
        if self.for_tools is not None:
            parts = (*parts, self.for_tools.fingerprint)
        return hashlib.sha256(repr(parts).encode()).hexdigest()


class ChatTemplate(TemplateText):
    """One compiled template; arguments as of `TemplateText`.

    Raises:
        TemplateError: The source is too long or no Jinja.
    """

    def __init__(
        self,
        source: str,
        *,
        tokenizer: _HasTokens,
        now: datetime.datetime,
        kwargs: Mapping[str, Any] | None = None,
        name: str = "",
    ) -> None:
        super().__init__(source, tokenizer=tokenizer, now=now, kwargs=kwargs, name=name)
        sandbox = Sandbox()
        _check_size(source, sandbox)
        sandbox.globals["strftime_now"] = now.strftime
        try:
            self._template = sandbox.from_string(source)
        except _NO_TEMPLATE as error:
            raise TemplateError(
                f"the chat template is not valid Jinja: {str(error)[:500]}",
                why="it is read by Jinja 3 with loop controls and the generation tag",
                fix="chat_template: FILE.jinja with a corrected copy",
            ) from error

    def render(
        self,
        messages: Sequence[Message],
        tools: Sequence[Mapping[str, Any]] = (),
        *,
        add_generation_prompt: bool,
    ) -> str:
        """The text of a conversation; tools are JSON schemas.

        Raises:
            TemplateError: The template refuses the messages, fails, or exceeds its limits.
        """
        dicts = message_dicts(messages)
        wrapped = [wrap_tool(tool) for tool in tools]
        return self.render_dicts(dicts, wrapped, add_generation_prompt=add_generation_prompt)

    def render_dicts(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]],
        *,
        add_generation_prompt: bool,
        **kwargs: Any,
    ) -> str:
        """The same from the dictionaries that templates see."""
        names = {**self._tokens, **self.kwargs, **kwargs}
        token = METER.set(Meter())
        try:
            return self._template.render(
                {
                    **names,
                    "messages": plain(messages),
                    "tools": plain(tools) or None,
                    "documents": None,
                    "add_generation_prompt": add_generation_prompt,
                }
            )
        except LimitReached as error:
            raise TemplateError(
                f"the chat template was stopped: {error}",
                why="a template runs within limits of work, text and time",
                fix="chat_template: FILE.jinja with one that ends",
            ) from error
        except (jinja2.exceptions.TemplateError, ArithmeticError, LookupError) as error:
            raise refused(error) from error
        except (TypeError, ValueError, AttributeError, RecursionError, MemoryError) as error:
            raise refused(error) from error
        finally:
            METER.reset(token)


def _check_size(source: str, sandbox: Sandbox) -> None:
    """Refuse a source that would take long to compile."""
    words = itertools.islice(_words(source, sandbox), TEMPLATE_TOKENS + 1)
    if len(source) > TEMPLATE_BYTES or sum(1 for _ in words) > TEMPLATE_TOKENS:
        raise TemplateError(
            f"the chat template is {len(source):,} characters long",
            why=f"at most {TEMPLATE_BYTES:,} characters and {TEMPLATE_TOKENS:,} words are read",
            fix="chat_template: FILE.jinja with a shorter one",
        )


def _words(source: str, sandbox: Sandbox) -> Iterator[object]:
    try:
        yield from sandbox.lex(source)
    except jinja2.exceptions.TemplateError:
        return  # compiling says what is wrong, and where


def refused(error: Exception) -> RowTemplateError:
    """That a template does not take a row, in the words of what it raised."""
    message = f"{error}"[:500] or type(error).__name__
    return RowTemplateError(
        f"the chat template does not take this conversation: {message}",
        why="roles, their order and tool calls must be what the template expects",
        fix="change the row, or give another template: chat_template: FILE.jinja",
    )


def message_dicts(messages: Sequence[Message]) -> list[dict[str, object]]:
    """Messages as templates expect them, each key only where there is something to say."""
    return [_message_dict(message) for message in messages]


def _message_dict(message: Message) -> dict[str, object]:
    made: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.reasoning is not None:
        made |= {"reasoning_content": message.reasoning, "thinking": message.reasoning}
    if message.tool_calls:
        made["tool_calls"] = [_call_dict(call) for call in message.tool_calls]
    if message.tool_call_id is not None:
        made["tool_call_id"] = message.tool_call_id
    if message.name is not None:
        made["name"] = message.name
    return made


def _call_dict(call: ToolCall) -> dict[str, object]:
    function = {"name": call.name, "arguments": dict(call.arguments)}
    made: dict[str, Any] = {"type": "function", "function": function}
    if call.id is not None:
        made["id"] = call.id
    return made


def wrap_tool(tool: Mapping[str, object]) -> Mapping[str, object]:
    """A tool in the form of the OpenAI API, from that form or from its inner object."""
    return tool if "function" in tool else {"type": "function", "function": dict(tool)}


def choose_template(
    tokenizer: _HasTokens,
    *,
    setting: str | None,
    gallery_template: str | None,
    now: datetime.datetime,
    kwargs: Mapping[str, Any] | None = None,
) -> tuple[ChatTemplate, str | None]:
    """The template of `choose_text`, compiled.

    Raises:
        TemplateError: It is too long or no Jinja.
    """
    text, notice = choose_text(
        tokenizer, setting=setting, gallery_template=gallery_template, now=now, kwargs=kwargs
    )
    made = _compiled(text, tokenizer)
    made.for_tools = _compiled(text.for_tools, tokenizer) if text.for_tools else None
    return made, notice


def _compiled(text: TemplateText, tokenizer: _HasTokens) -> ChatTemplate:
    return ChatTemplate(
        text.source, tokenizer=tokenizer, now=text.now, kwargs=text.kwargs, name=text.name
    )


def choose_text(
    tokenizer: _HasTokens,
    *,
    setting: str | None,
    gallery_template: str | None,
    now: datetime.datetime,
    kwargs: Mapping[str, Any] | None = None,
) -> tuple[TemplateText, str | None]:
    """The template of a run: the user's, else the tokenizer's, else the gallery's, else ChatML.

    A tokenizer that has a template named `tool_use` beside its own takes it for rows with tools.

    Args:
        setting: Jinja source given by the user (not a path).
        gallery_template: Source for families whose tokenizers carry none.

    Returns:
        The template, and what to tell the user if it is the fallback.
    """

    def text(source: str, name: str) -> TemplateText:
        return TemplateText(source, tokenizer=tokenizer, now=now, kwargs=kwargs, name=name)

    source = setting or tokenizer.chat_template or gallery_template
    if source is not None:
        own = source == tokenizer.chat_template
        made = text(
            source, "the model's own" if own else "chat_template" if setting else "the gallery's"
        )
        if own and (for_tools := tokenizer.other_templates.get("tool_use")):
            made.for_tools = text(for_tools, "the model's own for tools")
        return made, None
    known = {"<|im_start|>", "<|im_end|>"} <= set(tokenizer.special_tokens)
    turn_end = "<|im_end|>" if known or not tokenizer.eos else tokenizer.eos
    notice = "neither the tokenizer nor the gallery has a chat template: ChatML is used"
    if not known:
        notice += (
            f"; its markers are plain text to this tokenizer, and answers end with {turn_end!r}"
            if tokenizer.eos
            else "; its markers are plain text to this tokenizer, which has no end-of-text token"
        )
    return text(CHATML.replace("TURN_END", _quoted(turn_end)), "ChatML"), notice


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
