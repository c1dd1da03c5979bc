"""Whether the answers of a row say something that can be learned."""

from dataclasses import replace

import numpy as np

from luthier.data.rendering.turns import Messages, last_assistant
from luthier.data.types import BadRow, Conversation, Example, Feedback, Message, Preference


def empty_answer(messages: Messages) -> str | None:
    """What is wrong with the first learned answer that says nothing, if one does."""
    for index, message in enumerate(messages):
        if message.role == "assistant" and message.weight and not says_something(message):
            return f"the answer in message {index + 1} is empty"
    return None


def says_something(message: Message) -> bool:
    """Whether a turn has text, a call or reasoning."""
    return bool(message.content.strip() or message.tool_calls or (message.reasoning or "").strip())


def pair_problem(sample: Preference) -> tuple[str, str] | None:
    """Why a pair cannot be used, and the doctor's rule for it."""
    for name, side in (("chosen", sample.chosen), ("rejected", sample.rejected)):
        if not side or side[0].role != "assistant":
            return f"{name} does not begin with the assistant's message", ""
        if not all(says_something(item) for item in side if item.role == "assistant"):
            return f"{name} is empty", "empty-answer"
    if sample.chosen == sample.rejected:
        return "chosen and rejected are the same", "chosen-equals-rejected"
    return None


def only_answer(messages: Messages, index: int) -> Messages:
    """The conversation up to one answer, of which only that answer is learned."""
    kept = messages[: index + 1]
    return tuple(
        message if at == index else replace(message, weight=0.0) for at, message in enumerate(kept)
    )


def told_apart(made: Example | BadRow) -> Example | BadRow:
    """A pair whose sides are still two token sequences, or why it teaches nothing."""
    if isinstance(made, BadRow) or len(made.sequences) != 2:
        return made
    chosen, rejected = (side.ids for side in made.sequences)
    if not np.array_equal(chosen, rejected):
        return made
    cut = " after the cut to seq_length" if made.cut else " in the chat template's rendering"
    reason = f"chosen and rejected are the same {len(chosen)} tokens{cut}"
    return BadRow(made.origin, reason, "chosen-equals-rejected")


def judged(sample: Feedback) -> Conversation:
    """The conversation with the weight of every answer but the last taken away."""
    messages = sample.conversation.messages
    last = last_assistant(messages)
    weighted = tuple(
        replace(message, weight=1.0 if index == last else 0.0)
        if message.role == "assistant"
        else message
        for index, message in enumerate(messages)
    )
    return replace(sample.conversation, messages=weighted)


def with_label(made: Example | BadRow, label: bool) -> Example | BadRow:
    """A rendered answer with its label; a row that cannot be used stays what it is."""
    return made if isinstance(made, BadRow) else replace(made, wanted=label)
