"""What goes over the pipes between a process and the child that renders for it.

A question is one JSON object behind its length; an answer is a JSON object and plain bytes (int32
ids, float32 weights) behind the length of each.  Nothing that comes from a child is unpickled.
"""

import itertools
import json
import struct
from collections.abc import Iterable, Mapping
from collections.abc import Sequence as Items
from dataclasses import fields
from typing import Any

import numpy as np

from luthier.data.rendering.drafts import Piece
from luthier.data.types import (
    BadRow,
    Conversation,
    Cut,
    Example,
    Feedback,
    Ids,
    LongRow,
    Message,
    Origin,
    Preference,
    Sample,
    Sequence,
    Text,
    ToolCall,
)

QUESTION, ANSWER = struct.Struct("<I"), struct.Struct("<II")
"""In front of a question: bytes of its JSON.  In front of an answer: bytes of its JSON, of the rest."""

BEGUN = struct.Struct("<Q")
"""Questions begun, at the beginning of the file that a child has as standard error."""

LOG_FROM = 64
"""Where in that file whatever else is written begins."""

Json = dict[str, Any]
_ENCODER = json.JSONEncoder(check_circular=False)


def question(body: Mapping[str, Any]) -> bytes:
    """One question as it is sent; ASCII, so that half a surrogate pair survives.

    Raises:
        TypeError: A row holds a value that JSON has no form for, which no template can be given.
    """
    text = _ENCODER.encode(body).encode("ascii")
    return QUESTION.pack(len(text)) + text


def answer(body: Mapping[str, Any], *parts: bytes) -> bytes:
    """One answer as it is sent."""
    text = _ENCODER.encode(body).encode("ascii")
    return b"".join((ANSWER.pack(len(text), sum(map(len, parts))), text, *parts))


# -- rows


def message_json(message: Message) -> Json:
    """A message; a field only where it is not what an empty message has."""
    made: Json = {"role": message.role, "content": message.content}
    if message.weight is not None:
        made["weight"] = message.weight
    if message.tool_calls:
        made["tool_calls"] = [
            [call.name, dict(call.arguments), call.id] for call in message.tool_calls
        ]
    for name in ("tool_call_id", "name", "reasoning"):
        if (value := getattr(message, name)) is not None:
            made[name] = value
    return made


def message_of(body: Mapping[str, Any]) -> Message:
    """The message again."""
    calls = tuple(
        ToolCall(name, given, number) for name, given, number in body.get("tool_calls", ())
    )
    return Message(
        body["role"],
        body["content"],
        body.get("weight"),
        calls,
        body.get("tool_call_id"),
        body.get("name"),
        body.get("reasoning"),
    )


def messages_json(messages: Iterable[Message]) -> list[Json]:
    """Messages in order."""
    return [message_json(message) for message in messages]


def messages_of(body: Iterable[Mapping[str, Any]]) -> tuple[Message, ...]:
    """The messages again."""
    return tuple(map(message_of, body))


def sample_json(sample: Sample) -> Json:
    """A row of any kind, without its origin: the child has no use for it."""
    if isinstance(sample, Text):
        return {"kind": "text", "text": sample.text, "form": sample.form}
    if isinstance(sample, Feedback):
        inner = sample_json(sample.conversation)
        return {"kind": "feedback", "conversation": inner, "label": sample.label}
    made: Json = {"kind": "chat"}
    names: tuple[str, ...] = ("messages",)
    if isinstance(sample, Preference):
        made, names = {"kind": "pair"}, ("prompt", "chosen", "rejected")
    for name in names:
        made[name] = messages_json(getattr(sample, name))
    if sample.tools:
        made["tools"] = list(sample.tools)
    if sample.template_kwargs is not None:
        made["kwargs"] = dict(sample.template_kwargs)
    return made


def sample_of(body: Mapping[str, Any], origin: Origin) -> Sample:
    """The row again."""
    kind = body["kind"]
    if kind == "text":
        return Text(body["text"], origin, body["form"])
    if kind == "feedback":
        inner = sample_of(body["conversation"], origin)
        assert isinstance(inner, Conversation)
        return Feedback(inner, body["label"], origin)
    tools, kwargs = tuple(body.get("tools", ())), body.get("kwargs")
    if kind == "pair":
        prompt, chosen, rejected = map(
            messages_of, (body["prompt"], body["chosen"], body["rejected"])
        )
        return Preference(prompt, chosen, rejected, origin, tools, kwargs)
    return Conversation(messages_of(body["messages"]), origin, tools, kwargs)


# -- what is made of them


def made_answer(made: Example | BadRow) -> tuple[Json, list[bytes]]:
    """An example or a refused row."""
    if isinstance(made, LongRow):
        return {"bad": [made.reason, made.kind, made.tokens]}, []
    if isinstance(made, BadRow):
        return {"bad": [made.reason, made.kind]}, []
    body: Json = {"tokens": [len(sequence.ids) for sequence in made.sequences]}
    if (cut := made.cut) is not None:
        body["cut"] = [getattr(cut, one.name) for one in fields(Cut)]
    if made.wanted is not None:
        body["wanted"] = made.wanted
    parts = [sequence.ids.astype("<i4", copy=False).tobytes() for sequence in made.sequences]
    parts += [sequence.weights.astype("<f4", copy=False).tobytes() for sequence in made.sequences]
    return body, parts


def made_of(body: Mapping[str, Any], rest: bytearray, origin: Origin) -> Example | BadRow:
    """The example or refused row again; ids and weights are views of `rest`."""
    if "bad" in body:
        reason, kind, *tokens = body["bad"]
        return LongRow(origin, reason, kind, *tokens) if tokens else BadRow(origin, reason, kind)
    sizes = body["tokens"]
    ids = _split(np.frombuffer(rest, "<i4", sum(sizes)), sizes)
    weights = _split(np.frombuffer(rest, "<f4", sum(sizes), 4 * sum(sizes)), sizes)
    cut = Cut(*body["cut"]) if "cut" in body else None
    return Example(tuple(map(Sequence, ids, weights)), origin, cut, body.get("wanted"))


def pieces_answer(sequences: Items[Items[Piece]]) -> tuple[Json, list[bytes]]:
    """Per sequence, its pieces."""
    body = [
        [[piece.text, float(piece.weight), piece.kind, len(piece.ids)] for piece in sequence]
        for sequence in sequences
    ]
    ids = [piece.ids.astype("<i4", copy=False) for one in sequences for piece in one]
    return {"sequences": body}, [part.tobytes() for part in ids]


def pieces_of(body: Mapping[str, Any], rest: bytearray) -> list[list[Piece]]:
    """The pieces again."""
    flat = np.frombuffer(rest, "<i4")
    made: list[list[Piece]] = []
    done = 0
    for sequence in body["sequences"]:
        made.append([])
        for text, weight, kind, count in sequence:
            made[-1].append(Piece(text, flat[done : done + count], weight, kind))
            done += count
    return made


def ids_of(rest: bytearray) -> Ids:
    """Ids that were sent alone."""
    return np.frombuffer(rest, "<i4")


def _split(flat: Any, sizes: Items[int]) -> list[Any]:
    edges = itertools.accumulate(sizes, initial=0)
    return [flat[start:stop] for start, stop in itertools.pairwise(edges)]
