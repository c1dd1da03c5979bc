"""One question and one answer, under the names people give them."""

from collections.abc import Callable, Mapping
from typing import Any

from luthier.bounded import kind_of
from luthier.data.formats.chat import conversation
from luthier.data.formats.format import Context, Format, fields
from luthier.data.formats.messages import read_messages, text_of
from luthier.data.formats.tools import UnusableRowError, list_of
from luthier.data.types import Conversation, Message


def question_text(row: Mapping[str, object], ask: str, material: str) -> str:
    """The question and, behind an empty line, the text it is about; either may be missing."""
    parts = []
    for name in (ask, material):
        value = row.get(name)
        if value is not None and not isinstance(value, str):
            raise UnusableRowError(f"{name!r} is {kind_of(value)}, not text")
        if value and value.strip():
            parts.append(value)
    if not parts:
        raise UnusableRowError(f"{ask!r} is empty", "empty-question")
    return "\n\n".join(parts)


def _history(row: Mapping[str, object]) -> list[Message]:
    value = row.get("history")
    if value is None or value == "":
        return []
    messages = []
    for number, pair in enumerate(list_of(value, "history"), 1):
        texts = pair if isinstance(pair, list) else []
        if len(texts) != 2 or not all(isinstance(text, str) for text in texts):
            raise UnusableRowError(f"round {number} of the history is not a pair of texts")
        messages += [Message("user", texts[0]), Message("assistant", texts[1])]
    return messages


def _asks(
    ask: str, material: str, answer: str
) -> Callable[[Mapping[str, object], Context], Conversation]:
    """A format with one field that asks, one it is about, and one that answers."""

    def read(row: Mapping[str, Any], context: Context) -> Conversation:
        turns = _history(row)
        turns.append(Message("user", question_text(row, ask, material)))
        turns.append(
            Message("assistant", text_of(row[answer], f"{answer!r}, the answer,", "empty-answer"))
        )
        return conversation(row, context, turns)

    return read


def prompt_turns(value: object, context: Context) -> list[Message]:
    """A prompt as text or as a list of turns."""
    if isinstance(value, list):
        return read_messages(value, context.spelling, "prompt")
    return [Message("user", text_of(value, "'prompt'"))]


def _prompt_completion(row: Mapping[str, object], context: Context) -> Conversation:
    turns = prompt_turns(row["prompt"], context)
    name = "completion" if "completion" in row else "response"
    answer = row[name]
    if isinstance(answer, list):
        turns += read_messages(answer, context.spelling, name)
    else:
        turns.append(
            Message("assistant", text_of(answer, f"{name!r}, the answer,", "empty-answer"))
        )
    return conversation(row, context, turns)


_BESIDE = fields("system history tools")
_CHOICES = fields("A B C D choices options context passage")


def _pair(name: str, ask: str, answer: str, *, never: frozenset[str] = frozenset()) -> Format:
    return Format(
        name,
        "conversation",
        f"One {ask} and one {answer}",
        fields(f"{ask} {answer}"),
        _BESIDE,
        {ask: "What is the capital of France?", answer: "Paris."},
        _asks(ask, "", answer),
        never,
    )


INSTRUCTION_FORMATS = (
    Format(
        "alpaca",
        "conversation",
        "Alpaca: instruction, input (may be empty), output; system and history where there are any",
        fields("instruction input output"),
        _BESIDE,
        {"instruction": "Translate to French.", "input": "Good morning", "output": "Bonjour"},
        _asks("instruction", "input", "output"),
    ),
    Format(
        "instruction_output",
        "conversation",
        "Alpaca without input",
        fields("instruction output"),
        _BESIDE,
        {"instruction": "Name a prime number.", "output": "7"},
        _asks("instruction", "", "output"),
    ),
    Format(
        "dolly",
        "conversation",
        "Dolly: instruction, context (may be missing), response",
        fields("instruction response"),
        _BESIDE | fields("context"),
        {
            "instruction": "Who wrote it?",
            "context": "Emma is by Jane Austen.",
            "response": "Jane Austen",
        },
        _asks("instruction", "context", "response"),
    ),
    Format(
        "prompt_completion",
        "conversation",
        "prompt and completion, each a text or a list of messages",
        fields("prompt completion"),
        _BESIDE - fields("history"),
        {"prompt": "What is 2 + 2?", "completion": "4"},
        _prompt_completion,
    ),
    Format(
        "prompt_response",
        "conversation",
        "prompt and response, each a text or a list of messages",
        fields("prompt response"),
        _BESIDE - fields("history"),
        {"prompt": "What is 2 + 2?", "response": "4"},
        _prompt_completion,
    ),
    _pair("question_answer", "question", "answer", never=_CHOICES),
    _pair("query_response", "query", "response"),
    _pair("input_output", "input", "output"),
)
