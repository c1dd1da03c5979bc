"""Content kept apart from control: strings of a row found, and control texts in them broken up."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from luthier.data.tokens.tokenizer import Tokenizer

_THOUGHT = re.compile(
    r"\A\s*(?:<think>)?\n*(?P<thought>.*?)\n*</think>\n*(?P<rest>.*)\Z", re.DOTALL
)


def strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for name, item in value.items():
            yield from strings(name)
            yield from strings(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from strings(item)


def broken(value: Any, tokenizer: Tokenizer, nonce: str) -> Any:
    if isinstance(value, str):
        return tokenizer.break_controls(value, nonce) if tokenizer.holds_control(value) else value
    if isinstance(value, Mapping):
        names = {broken(name, tokenizer, nonce): item for name, item in value.items()}
        return {name: broken(item, tokenizer, nonce) for name, item in names.items()}
    if isinstance(value, (list, tuple)):
        return [broken(item, tokenizer, nonce) for item in value]
    return value


def thoughts_apart(dicts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """`<think>...</think>` at the start of answers given as the field that templates know."""
    made = []
    for message in dicts:
        found = _THOUGHT.match(message["content"] or "") if message["role"] == "assistant" else None
        if found and "reasoning_content" not in message:
            thought = found["thought"]
            message = {
                **message,
                "content": found["rest"],
                "reasoning_content": thought,
                "thinking": thought,
            }
        made.append(message)
    return made


def thoughts_dropped(dicts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Answers from behind their last `</think>`, as some templates write them."""
    return [
        {**message, "content": message["content"].rpartition("</think>")[2]}
        if message["role"] == "assistant" and message["content"]
        else message
        for message in dicts
    ]
