"""Turns of a chat, in whichever of the usual spellings, to `Message`.

Stated rules.  Names of roles are compared without regard to case.  A turn may stand anywhere: an
assistant first, two turns of one side in a row, a system turn in the middle, a user turn last
all have a meaning; where the model's template has no place for one, rendering says so.  What can
not be used: an unknown role, an empty answer or question, content that is not text.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, Literal

from luthier.bounded import kind_of
from luthier.data.formats.flags import weight_of
from luthier.data.formats.tools import UnusableRowError, dump, list_of, read_calls
from luthier.data.types import Message, Role, ToolCall

Speaker = Literal["system", "user", "assistant", "tool", "call"]
"""A role, or `call`: an assistant turn whose text is the JSON of its tool calls."""

_SPEAKERS: dict[Speaker, str] = {
    "system": "system developer",
    "user": "user human prompter",
    "assistant": "assistant gpt model bot chatgpt bing bard ai",
    "tool": "tool observation function ipython tool_response tool_result function_response",
    "call": "function_call tool_call tool_calls",
}
KNOWN_ROLES: Mapping[str, Speaker] = {
    name: speaker for speaker, names in _SPEAKERS.items() for name in names.split()
}
_REASONING = ("reasoning_content", "reasoning", "thinking")


@dataclass(frozen=True, slots=True)
class Spelling:
    """How the turns of a file are written; the defaults are what the usual formats do."""

    role_keys: tuple[str, ...] = ("role", "from")
    content_keys: tuple[str, ...] = ("content", "value")
    roles: Mapping[str, Speaker] = field(default_factory=lambda: KNOWN_ROLES)


USUAL = Spelling()


def read_messages(
    value: object, spelling: Spelling = USUAL, what: str = "messages"
) -> list[Message]:
    """The turns of a list (or of the JSON of one)."""
    turns = list_of(value, what)
    if not turns:
        raise UnusableRowError(f"{what} is empty")
    return [read_message(turn, spelling, number) for number, turn in enumerate(turns, 1)]


def read_message(turn: object, spelling: Spelling, number: int) -> Message:
    """One turn.

    Raises:
        UnusableRowError: With the number of the turn and what is wrong with it.
    """
    if plain := _plain(turn, spelling):
        return plain
    where = f"message {number}"
    if not isinstance(turn, dict):
        raise UnusableRowError(f"{where} is {kind_of(turn)}, not an object")
    speaker = _speaker(_one_of(turn, spelling.role_keys, where), spelling, where)
    role: Role = "assistant" if speaker == "call" else speaker
    value = _one_of(turn, spelling.content_keys, where, missing_ok=_may_lack_content(turn))
    reasoning = next((turn[key] for key in _REASONING if turn.get(key) is not None), None)
    calls = _calls(turn, where)
    if speaker == "call":
        content, calls = "", calls + read_calls(value, where)
    else:
        content, thought, more = _content(value, role, where)
        calls, reasoning = calls + more, reasoning if thought is None else thought
    if calls and role != "assistant":
        raise UnusableRowError(f"{where} has tool calls, but its role is {role}")
    return Message(
        role,
        content,
        weight_of(turn, where),
        calls,
        _text_or_none(turn, "tool_call_id", where),
        _text_or_none(turn, "name", where),
        _text(reasoning, f"the reasoning of {where}") if reasoning is not None else None,
    )


def _plain(turn: Any, spelling: Spelling) -> Message | None:
    """The usual turn, who and what and nothing else, without the long way (4 times as fast)."""
    if not isinstance(turn, dict) or len(turn) != 2:
        return None
    who, what = turn.items()
    if who[0] not in spelling.role_keys:
        who, what = what, who
    if who[0] not in spelling.role_keys or what[0] not in spelling.content_keys:
        return None
    if not isinstance(who[1], str) or not isinstance(what[1], str):
        return None
    speaker = spelling.roles.get(who[1])
    return None if speaker is None or speaker == "call" else Message(speaker, what[1])


def _one_of(
    turn: Mapping[str, object], keys: Sequence[str], where: str, missing_ok: bool = False
) -> object:
    found = [key for key in keys if turn.get(key) is not None]
    if len(found) > 1:
        raise UnusableRowError(f"{where} has both {found[0]!r} and {found[1]!r}")
    if found:
        return turn[found[0]]
    if missing_ok:
        return None
    if any(key in turn for key in keys):
        raise UnusableRowError(f"{where}: {next(key for key in keys if key in turn)!r} is null")
    close = get_close_matches(keys[0], [str(key) for key in turn], n=1)
    hint = f"; {visible(close[0])} looks like it" if close else ""
    raise UnusableRowError(f"{where} has no {keys[0]!r}{hint}")


def visible(name: str) -> str:
    """A name with its characters spelled out where some only look like ASCII."""
    return repr(name) if name.isascii() else f"{name!r} ({name!a})"


def _speaker(name: object, spelling: Spelling, where: str) -> Speaker:
    if not isinstance(name, str):
        raise UnusableRowError(f"the role of {where} is {kind_of(name)}, not a string")
    if speaker := spelling.roles.get(name.strip().lower()):
        return speaker
    raise UnusableRowError(
        f"the role of {where}, {visible(name)}, is unknown; {role_hint(name)}", "role-unknown"
    )


def role_hint(name: str) -> str:
    """How to say what a role means."""
    return f"columns: {{assistant_role: {name}}} says that it is the assistant"


def _may_lack_content(turn: Mapping[str, object]) -> bool:
    return any(turn.get(key) for key in ("tool_calls", "function_call"))


def _calls(turn: Mapping[str, object], where: str) -> tuple[ToolCall, ...]:
    calls = read_calls(turn.get("tool_calls"), f"tool_calls of {where}")
    return calls + read_calls(turn.get("function_call"), f"function_call of {where}")


def _content(value: object, role: Role, where: str) -> tuple[str, str | None, tuple[ToolCall, ...]]:
    """Text, reasoning and tool calls of a turn's content: a string, typed parts, or for a tool's
    result any JSON."""
    if value is None:
        return "", None, ()
    if isinstance(value, str):
        return value, None, ()
    if isinstance(value, list) and all(isinstance(p, str) or _is_part(p) for p in value) and value:
        return _parts(value, where)
    if role == "tool" and isinstance(value, (dict, list)):
        return dump(value), None, ()
    raise UnusableRowError(f"the content of {where} is {kind_of(value)}, not text")


def _is_part(part: Any) -> bool:
    return isinstance(part, dict) and isinstance(part.get("type"), str)


def _parts(parts: Sequence[Any], where: str) -> tuple[str, str | None, tuple[ToolCall, ...]]:
    text: list[str] = []
    thought: list[str] = []
    calls: tuple[ToolCall, ...] = ()
    for part in parts:
        kind = "text" if isinstance(part, str) else part["type"]
        value = (
            part if isinstance(part, str) else part.get("value", part.get(kind, part.get("text")))
        )
        if kind in ("text", "input_text", "output_text"):
            text.append(_text(value, f"a part of {where}"))
        elif kind in _REASONING:
            thought.append(_text(value, f"the reasoning of {where}"))
        elif kind in ("tool_call", "function_call"):
            calls += read_calls(value, f"a call in {where}")
        else:
            raise UnusableRowError(f"{where} has a part of type {kind!r}; only text can be learned")
    return "".join(text), "".join(thought) if thought else None, calls


def _text(value: Any, what: str) -> str:
    if isinstance(value, str):
        return value
    raise UnusableRowError(f"{what} is {kind_of(value)}, not text")


def _text_or_none(turn: Mapping[str, object], key: str, where: str) -> str | None:
    value = turn.get(key)
    return None if value is None else _text(value, f"{key!r} of {where}")


def check_turns(messages: Sequence[Message]) -> None:
    """Refuse a conversation with nothing to learn from, or with an empty question or answer.

    An empty answer is let through where its weight is 0: nothing is learned from it.
    """
    for number, message in enumerate(messages, 1):
        if message.content.strip() or message.tool_calls or message.weight == 0:
            continue
        if message.role == "assistant":
            raise UnusableRowError(f"message {number}, an answer, is empty", "empty-answer")
        if message.role == "user":
            raise UnusableRowError(f"message {number}, a question, is empty", "empty-question")
    if not any(message.role == "assistant" for message in messages):
        raise UnusableRowError("there is no assistant message to learn from", "no-answer")


def with_system(messages: Sequence[Message], system: object) -> tuple[Message, ...]:
    """The turns with the row's own `system` text in front."""
    if system is None or (isinstance(system, str) and not system.strip()):
        return tuple(messages)
    text = _text(system, "'system'")
    if messages and messages[0].role == "system":
        if not messages[0].content.strip():
            return (Message("system", text), *messages[1:])
        if messages[0].content == text:
            return tuple(messages)
        raise UnusableRowError("the row has a system text beside another in its first message")
    return (Message("system", text), *messages)


def text_of(value: object, what: str, kind: str = "empty-question") -> str:
    """A text field that must not be empty; `kind` is the doctor's rule where it is."""
    text = _text(value, what)
    if not text.strip():
        raise UnusableRowError(f"{what} is empty", kind)
    return text
