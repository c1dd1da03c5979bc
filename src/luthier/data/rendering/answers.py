"""Whether the answers of a row say something that can be learned."""

from luthier.data.rendering.turns import Messages
from luthier.data.types import Message, Preference


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
