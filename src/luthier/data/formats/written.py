"""A sample as a row in a format that is known everywhere: OpenAI's `messages`, pairs, text."""

from collections.abc import Iterable, Mapping
from typing import Any

from luthier.data.types import Conversation, Feedback, Message, Preference, Sample, Text


def row_of(sample: Sample) -> dict[str, object]:
    """The fields that read back as this very sample."""
    if isinstance(sample, Text):
        return {"text": sample.text}
    if isinstance(sample, Feedback):
        turns = sample.conversation.messages
        split = max(place for place, turn in enumerate(turns) if turn.role == "assistant")
        sides = {"prompt": _turns(turns[:split]), "completion": _turns(turns[split:])}
        return {**sides, "label": sample.label, **_beside(sample.conversation)}
    if isinstance(sample, Preference):
        sides = {name: _turns(getattr(sample, name)) for name in ("prompt", "chosen", "rejected")}
        return {**sides, **_beside(sample)}
    return {"messages": _turns(sample.messages), **_beside(sample)}


def _beside(sample: Conversation | Preference) -> dict[str, object]:
    made: dict[str, Any] = {}
    if sample.tools:
        made["tools"] = [dict(tool) for tool in sample.tools]
    if sample.template_kwargs:
        made["chat_template_kwargs"] = dict(sample.template_kwargs)
    return made


def _turns(messages: Iterable[Message]) -> list[dict[str, object]]:
    return [_turn(message) for message in messages]


def _turn(message: Message) -> dict[str, object]:
    made: dict[str, Any] = {"role": message.role, "content": message.content}
    beside: Mapping[str, object] = {
        "weight": message.weight,
        "tool_call_id": message.tool_call_id,
        "name": message.name,
        "reasoning_content": message.reasoning,
    }
    made |= {name: value for name, value in beside.items() if value is not None}
    if message.tool_calls:
        made["tool_calls"] = [
            {
                **({} if call.id is None else {"id": call.id}),
                "type": "function",
                "function": {"name": call.name, "arguments": dict(call.arguments)},
            }
            for call in message.tool_calls
        ]
    return made
