"""Messages before they are rendered: system text in its place, ids of tool calls, whole turns."""

from collections.abc import Sequence
from dataclasses import replace

from luthier.data.rendering.probe import TemplateFacts
from luthier.data.rendering.template import RowTemplateError
from luthier.data.types import Message

Messages = tuple[Message, ...]


def has_system(messages: Sequence[Message]) -> bool:
    """Whether there is system text; an empty system turn is none."""
    return any(message.role == "system" and message.content.strip() for message in messages)


def has_user(messages: Sequence[Message]) -> bool:
    """Whether anybody asks."""
    return any(message.role == "user" for message in messages)


def with_system(messages: Messages, system_prompt: str | None) -> Messages:
    """The messages with `system_prompt` in front, unless the row has system text of its own."""
    if not system_prompt or has_system(messages):
        return messages
    rest = (message for message in messages if message.role != "system")
    return (Message("system", system_prompt), *rest)


def merged_system(messages: Messages) -> Messages:
    """System text put before the user message that follows it, for templates without a system role.

    Raises:
        RowTemplateError: An answer or nothing follows it: text would move to another place.
    """
    made: list[Message] = []
    texts: list[str] = []
    for index, message in enumerate(messages):
        if message.role == "system":
            if message.content.strip():
                texts.append(message.content)
            continue
        if texts and message.role == "user":
            message = replace(message, content="\n\n".join((*texts, message.content)))
            texts.clear()
        if texts:
            raise RowTemplateError(
                "the chat template has no system role, and no user message follows the system text "
                f"before message {index + 1}",
                why="system text is put before the user message that follows it",
                fix="put the text into a user message, or give a template that has a system role",
            )
        made.append(message)
    if texts and not (made and made[-1].role == "assistant" and has_user(made)):
        raise RowTemplateError(
            "the chat template has no system role, and no user message follows the system text",
            why="system text is put before the user message that follows it",
            fix="put the text into a user message, or give a template that has a system role",
        )
    return tuple(made)


def with_call_ids(messages: Messages, facts: TemplateFacts) -> Messages:
    """Every tool call and result with an id that the template takes.

    Ids that are missing are counted up; results without one answer the calls before them in order.
    """
    if not any(message.tool_calls or message.role == "tool" for message in messages):
        return messages
    names: dict[str, str] = {}
    waiting: list[str] = []
    made: list[Message] = []

    def known(given: str | None) -> str:
        key = given if given is not None else f"\0{len(names)}"
        if key not in names:
            keep = given is not None and not facts.short_ids
            names[key] = given if keep and given is not None else f"call{len(names):05d}"
        return names[key]

    for message in messages:
        if message.tool_calls:
            calls = tuple(replace(call, id=known(call.id)) for call in message.tool_calls)
            waiting = [call.id for call in calls if call.id is not None]
            message = replace(message, tool_calls=calls)
        elif message.role == "tool":
            given = message.tool_call_id
            number = known(given) if given is not None else (waiting[0] if waiting else known(None))
            waiting = [other for other in waiting if other != number]
            message = replace(message, tool_call_id=number)
        made.append(message)
    return tuple(made)


def last_assistant(messages: Sequence[Message]) -> int | None:
    """Index of the last assistant message."""
    found = [index for index, message in enumerate(messages) if message.role == "assistant"]
    return found[-1] if found else None


def without_oldest_turn(messages: Messages) -> Messages | None:
    """The messages without the oldest user message and all that answers it; system text stays.

    Returns:
        None where only one turn is left: the last one is never taken whole.
    """
    users = [index for index, message in enumerate(messages) if message.role == "user"]
    if len(users) < 2:
        return None
    first, second = users[0], users[1]
    kept = tuple(message for message in messages[:second] if message.role == "system")
    assert first < second
    return (*kept, *messages[second:])


def shortened(messages: Messages, characters: int, *, before: int) -> tuple[Messages, int]:
    """Take characters off the start of the oldest user and tool texts among `messages[:before]`.

    Returns:
        The messages, and how many characters could be taken.
    """
    made, left = list(messages), characters
    for index in range(before):
        message = messages[index]
        if left > 0 and message.role in ("user", "tool"):
            take = min(left, len(message.content))
            made[index] = replace(message, content=message.content[take:])
            left -= take
    return tuple(made), characters - left
