"""Conversations written as lists of turns: OpenAI's `messages` and ShareGPT's `conversations`."""

from collections.abc import Mapping
from typing import Any

from luthier.data.formats.flags import template_kwargs, with_mask
from luthier.data.formats.format import Context, Format, fields
from luthier.data.formats.messages import check_turns, read_messages, with_system
from luthier.data.formats.tools import check_calls, read_tools
from luthier.data.types import Conversation, Message

TEMPLATE_KWARGS = "chat_template_kwargs"


def conversation(
    row: Mapping[str, Any], context: Context, messages: list[Message] | tuple[Message, ...]
) -> Conversation:
    """A checked conversation from turns and what stands beside them."""
    turns = with_system(with_mask(messages, row.get("loss_mask")), row.get("system"))
    check_turns(turns)
    tools = tools_of(row)
    check_calls(turns, tools)
    return Conversation(turns, context.origin, tools, template_kwargs(row.get(TEMPLATE_KWARGS)))


def tools_of(row: Mapping[str, object]) -> tuple[Mapping[str, object], ...]:
    """`tools`, or `functions` as they were called before."""
    return read_tools(row.get("tools")) or read_tools(row.get("functions"))


def turns_of(row: Mapping[str, object], context: Context) -> list[Message]:
    """The turns of a row, under either name."""
    name = "messages" if "messages" in row else "conversations"
    return read_messages(row[name], context.spelling, name)


def _chat(row: Mapping[str, object], context: Context) -> Conversation:
    return conversation(row, context, turns_of(row, context))


_BESIDE = fields("system tools functions loss_mask") | {TEMPLATE_KWARGS}

CHAT_FORMATS = (
    Format(
        "messages",
        "conversation",
        "OpenAI chat: turns with role and content (text or typed parts), tool calls, weights",
        fields("messages"),
        _BESIDE,
        {
            "messages": [
                {"role": "system", "content": "You are brief."},
                {"role": "user", "content": "What is the capital of France?"},
                {"role": "assistant", "content": "Paris.", "weight": 1},
            ]
        },
        _chat,
    ),
    Format(
        "conversations",
        "conversation",
        "ShareGPT: turns with from and value; human, gpt, system, function_call, observation",
        fields("conversations"),
        _BESIDE,
        {
            "conversations": [
                {"from": "human", "value": "What is the weather in Oslo?"},
                {
                    "from": "function_call",
                    "value": '{"name": "weather", "arguments": {"city": "Oslo"}}',
                },
                {"from": "observation", "value": '{"celsius": 4}'},
                {"from": "gpt", "value": "It is 4 degrees."},
            ],
            "tools": '[{"name": "weather", "parameters": {"type": "object"}}]',
        },
        _chat,
    ),
)
