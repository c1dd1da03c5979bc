"""Tool schemas and tool calls, brought to one shape: OpenAI's."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from luthier.bounded import kind_of
from luthier.data.reading.strict_json import decode
from luthier.data.types import Message, ToolCall
from luthier.errors import LimitError


class UnusableRowError(Exception):
    """One row cannot be used; the text is the reason a person reads, `kind` the doctor's rule."""

    def __init__(self, reason: str, kind: str = "") -> None:
        super().__init__(reason)
        self.kind = kind


def parse_json(text: str, what: str, kind: str = "") -> object:
    """JSON inside a string of a row."""
    try:
        return decode(text)
    except (ValueError, LimitError) as error:
        raise UnusableRowError(f"{what} is not JSON: {error}", kind) from error


def list_of(value: object, what: str) -> Sequence[object]:
    """A list, or the JSON of one in a string."""
    if isinstance(value, str):
        value = parse_json(value, what)
    if not isinstance(value, (list, tuple)):
        raise UnusableRowError(f"{what} is {kind_of(value)}, not a list")
    return value


def read_tools(value: object) -> tuple[Mapping[str, object], ...]:
    """The tools of a row: a list, or the JSON of one, of schemas in or without OpenAI's wrapper.

    A schema keeps its content and order; null, an empty string and an empty list are no tools.
    """
    if value is None or (isinstance(value, str) and not value.strip()):
        return ()
    tools = []
    for number, tool in enumerate(list_of(value, "tools"), 1):
        if not isinstance(tool, dict):
            raise UnusableRowError(f"tool {number} is {kind_of(tool)}, not an object")
        wrapped = tool if isinstance(tool.get("function"), dict) else None
        wrapped = wrapped or {"type": "function", "function": tool}
        if not _is_name(wrapped["function"].get("name")):
            raise UnusableRowError(f"tool {number} has no name")
        tools.append(wrapped)
    return tuple(tools)


def read_calls(value: object, what: str) -> tuple[ToolCall, ...]:
    """Tool calls of a turn: a list of calls, one call, or the JSON of either; null is none."""
    if value is None:
        return ()
    if isinstance(value, str):
        value = parse_json(value, what, "tool-arguments")
    if isinstance(value, dict):
        value = [value]
    return tuple(_call(call, what) for call in list_of(value, what))


def _call(value: object, what: str) -> ToolCall:
    if not isinstance(value, dict):
        raise UnusableRowError(f"{what} holds {kind_of(value)}, not a call")
    function = value.get("function", value)
    function = {"name": function} if isinstance(function, str) else function
    if not isinstance(function, dict) or not _is_name(function.get("name")):
        raise UnusableRowError(f"{what} holds a call without a name")
    arguments = function.get("arguments", value.get("arguments", function.get("parameters")))
    name = function["name"]
    if isinstance(arguments, str):
        text, what = arguments, f"the arguments of {name}"
        arguments = parse_json(text, what, "tool-arguments") if text.strip() else {}
    if arguments is None:
        arguments = {}
    if not isinstance(arguments, dict):
        raise UnusableRowError(
            f"the arguments of {name} are {kind_of(arguments)}, not an object", "tool-arguments"
        )
    call_id = value.get("id")
    if call_id is not None and not isinstance(call_id, str):
        raise UnusableRowError(f"the id of the call of {name} is {kind_of(call_id)}, not a string")
    return ToolCall(name, arguments, call_id)


def _is_name(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


def check_calls(messages: Sequence[Message], tools: Sequence[Mapping[str, Any]]) -> None:
    """Refuse calls of tools that are not offered, and results of calls nobody made.

    Both are only judged where there is something to judge by: tools in the row, ids on the calls.
    """
    offered = {tool["function"]["name"] for tool in tools}
    made: set[str | None] = set()
    for number, message in enumerate(messages, 1):
        for call in message.tool_calls:
            made.add(call.id)
            if offered and call.name not in offered:
                names = ", ".join(sorted(offered)[:5])
                raise UnusableRowError(
                    f"message {number} calls {call.name!r}, which is not among its tools ({names})",
                    "tool-unknown",
                )
        wanted = message.tool_call_id
        if wanted is not None and made and None not in made and wanted not in made:
            raise UnusableRowError(
                f"message {number} is the result of call {wanted!r}, which nobody made",
                "tool-result-unmatched",
            )


def dump(value: object) -> str:
    """A JSON value as the text of a tool's result."""
    return json.dumps(value, ensure_ascii=False)
