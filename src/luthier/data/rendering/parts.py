"""What a row says, part by part: texts, thoughts and calls, and how each may be written.

A part is a stretch of a message without the white space around it: templates strip.  Thinking tags
and the switches `/think` and `/no_think` are read by templates and are no part.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, NamedTuple

from luthier.data.types import Message, ToolCall

Kind = Literal["text", "thought"]
_BETWEEN = re.compile(r"</?(?:think|thinking)>|/(?:no_)?think\b")
_SWITCH = re.compile(r"/(?:no_)?think\b")
_SPACE = " \t\r\n\f\v"


class Part(NamedTuple):
    """A stretch of one message: of its content or, for a thought, perhaps of its reasoning."""

    message: int
    kind: Kind
    text: str


class _Stretch(NamedTuple):
    start: int
    stop: int
    kind: Kind


def _stretches(content: str, role: str) -> Iterator[_Stretch]:
    if "think" not in content:
        yield from _stripped(content, 0, len(content), "text")
        return
    done = 0
    for found in (_BETWEEN if role == "assistant" else _SWITCH).finditer(content):
        thought = found.group().startswith("</")
        yield from _stripped(content, done, found.start(), "thought" if thought else "text")
        done = found.end()
    yield from _stripped(content, done, len(content), "text")


def _stripped(content: str, start: int, stop: int, kind: Kind) -> Iterator[_Stretch]:
    piece = content[start:stop]
    core = piece.strip()
    if core:
        start += piece.index(core)
        yield _Stretch(start, start + len(core), kind)


def parts_of(messages: Sequence[Message]) -> list[Part]:
    """Every text and thought of the messages, in the order in which templates write them."""
    made: list[Part] = []
    for index, message in enumerate(messages):
        if (message.reasoning or "").strip():
            made.append(Part(index, "thought", (message.reasoning or "").strip()))
        made += [
            Part(index, kind, message.content[start:stop])
            for start, stop, kind in _stretches(message.content, message.role)
        ]
    return made


def marked(messages: Sequence[Message], mark: str) -> tuple[Message, ...]:
    """The messages with two marks inside every part, behind its first and before its last
    character: `mark` and the character of the part's place among all parts."""
    made, place = [], 0
    for message in messages:
        changed: dict[str, str] = {}
        if core := (message.reasoning or "").strip():
            reasoning = message.reasoning or ""
            start = reasoning.index(core)
            tail = reasoning[start + len(core) :]
            changed["reasoning"] = reasoning[:start] + _put(core, mark, place) + tail
            place += 1
        content, done = "", 0
        for start, stop, _ in _stretches(message.content, message.role):
            text = _put(message.content[start:stop], mark, place)
            content += message.content[done:start] + text
            done, place = stop, place + 1
        changed["content"] = content + message.content[done:]
        made.append(replace(message, **changed))  # type: ignore[arg-type]
    return tuple(made)


def _put(core: str, mark: str, place: int) -> str:
    sign = mark + sign_of(place)
    return core[0] + sign + core[1:-1] + sign + core[1:][-1:]


def sign_of(place: int) -> str:
    """One character that no template reads, for a place among the parts."""
    return chr(0x20000 + place)


def read_marks(text: str, mark: str) -> tuple[str, dict[str, list[int]]]:
    """A text without its marks, and where each sign stood in it."""
    first, *rest = text.split(mark)
    places: dict[str, list[int]] = {}
    pieces, done = [first], len(first)
    for piece in rest:
        places.setdefault(piece[:1], []).append(done)
        pieces.append(piece[1:])
        done += len(piece) - 1
    return "".join(pieces), places


def written_as(text: str) -> Iterator[str]:
    """The ways in which templates write a text: as it is, or inside JSON."""
    yield text
    for ascii_only in (False, True):
        inside = json.dumps(text, ensure_ascii=ascii_only)[1:-1]
        if inside != text:
            yield inside
            yield (
                inside.replace("<", "\\u003c")
                .replace(">", "\\u003e")
                .replace("&", "\\u0026")
                .replace("'", "\\u0027")
            )
            yield json.dumps(inside)[1:-1]


def says(inside: str, text: str) -> bool:
    """Whether what a template wrote is the text, perhaps inside JSON."""
    return inside == text or any(inside == way for way in written_as(text))


def call_missing(call: ToolCall, region: str) -> str | None:
    """What of a call is not written in a stretch of a rendering; None where all of it is."""
    if not _stands(call.name, region):
        return f"the call of {call.name}"
    for leaf in leaves(call.arguments):
        if not _stands(leaf, region):
            shown = leaf if len(leaf) < 40 else leaf[:40] + "..."
            return f"{shown!r} of the call of {call.name}"
    return None


def _stands(text: str, region: str) -> bool:
    core = text.strip(_SPACE)
    return not core or any(way in region for way in written_as(core))


def leaves(value: Any) -> Iterator[str]:
    """Keys and values of JSON as templates write them."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for name, item in value.items():
            yield str(name)
            yield from leaves(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from leaves(item)
    elif isinstance(value, float):
        yield json.dumps(value)
    elif isinstance(value, int) and not isinstance(value, bool):
        yield str(value)


def tool_missing(tools: Sequence[Mapping[str, Any]], text: str) -> tuple[str | None, list[str]]:
    """The first tool whose name a rendering lacks, and names, descriptions and parameters it lacks.

    Templates write schemas in many forms; what is looked for is what a model needs to know a tool by.
    """
    lacking: list[str] = []
    for tool in tools:
        function = tool.get("function", tool)
        name = str(function.get("name", ""))
        if not _stands(name, text):
            return name, lacking
        parameters = function.get("parameters")
        properties = parameters.get("properties") if isinstance(parameters, Mapping) else None
        wanted = [("description", function.get("description"))]
        for key, schema in properties.items() if isinstance(properties, Mapping) else ():
            wanted.append((f"parameter {key}", key))
            if isinstance(schema, Mapping):
                wanted.append((f"description of {key}", schema.get("description")))
        lacking += [
            f"{what} of {name}"
            for what, value in wanted
            if isinstance(value, str) and not _stands(value, text)
        ]
    return None, lacking
