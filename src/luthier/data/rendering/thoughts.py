"""Thinking blocks: thoughts written inside answers, and prompts that already open a block."""

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from luthier.data.types import Message

_OPEN = re.compile(r"<(?P<tag>think|thinking|reasoning|seed:think)>(?P<space>\s*)\Z")
_INLINE = re.compile(
    r"\A\s*(?:<(?P<tag>think|thinking)>)?(?P<thought>.*?)</(?:think|thinking)>(?P<rest>.*)\Z",
    re.DOTALL,
)
_CLOSING = re.compile(r"</think>")
EMPTY = re.compile(r"<(think|thinking|reasoning|seed:think)>\s*</\1>\n{0,2}")


class OpenThought(NamedTuple):
    """A thinking block that a prompt leaves open: its closing tag, and what stands before and
    behind that tag."""

    closing: str
    before: str
    behind: str


def opened(prompt: str) -> OpenThought | None:
    """The thinking block at the end of a prompt, if it is open there."""
    found = _OPEN.search(prompt)
    if found is None:
        return None
    spaced = "\n" in found["space"]
    return OpenThought(f"</{found['tag']}>", "\n" if spaced else "", "\n\n" if spaced else "")


def inline(content: str) -> tuple[str, str] | None:
    """Thought and answer of a text that begins with a thinking block, in front of its last part."""
    found = _INLINE.match(content)
    return (found["thought"], found["rest"]) if found else None


def thought_of(message: Message) -> str:
    """What an answer thinks, in its field or written out; empty where it does not."""
    if message.reasoning is not None:
        return message.reasoning
    found = inline(message.content)
    return found[0] if found else ""


def closes_only(message: Message) -> bool:
    """Whether an answer ends a thought that it does not begin: the prompt had begun it."""
    content = message.content
    if message.role != "assistant" or message.reasoning is not None or "</think>" not in content:
        return False
    ends = list(_CLOSING.finditer(content))
    if len(ends) != 1 or "<think>" in content:
        return False
    before, rest = content[: ends[0].start()], content[ends[0].end() :]
    apart = before.endswith("\n") or rest.startswith("\n")
    return apart and bool(rest.strip())


def with_openings(messages: Sequence[Message]) -> tuple[tuple[Message, ...], int]:
    """Messages whose thoughts all begin with `<think>`, and how many of them did not."""
    made, count = list(messages), 0
    for at, message in enumerate(messages):
        if closes_only(message):
            made[at] = replace(message, content=f"<think>\n{message.content}")
            count += 1
    return tuple(made), count


def closed(block: OpenThought, thought: str, rest: str) -> tuple[str, str]:
    """What stands behind a prompt that has opened a thinking block: what is given, what is learned.

    A thought is learned with the end of its block.  Without one the block is closed before anything
    is learned: the answer belongs behind it, and nothing says that the model is to think no more.
    """
    rest = rest.lstrip("\n")
    if thought.strip():
        return "", f"{thought.strip()}{block.before}{block.closing}{block.behind}{rest}"
    return f"{block.before}{block.closing}{block.behind}", rest
