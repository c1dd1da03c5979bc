"""Pairs: one prompt, an answer that is wanted and one that is not; and single judged answers."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from luthier.bounded import kind_of
from luthier.data.formats.chat import TEMPLATE_KWARGS, conversation, tools_of, turns_of
from luthier.data.formats.flags import template_kwargs
from luthier.data.formats.format import Context, Format, fields
from luthier.data.formats.instructions import prompt_turns, question_text
from luthier.data.formats.messages import (
    read_message,
    read_messages,
    text_of,
    with_system,
)
from luthier.data.formats.tools import UnusableRowError, check_calls
from luthier.data.types import Feedback, Message, Preference

Turns = Sequence[Message]
_TRANSCRIPT = re.compile(r"(?:\A|\n\n)(Human|Assistant):")


def _pair(
    row: Mapping[str, Any], context: Context, prompt: Turns, chosen: Turns, rejected: Turns
) -> Preference:
    prompt = with_system(prompt, row.get("system"))
    if not any(message.role != "system" for message in prompt):
        raise UnusableRowError("the pair has no prompt")
    if prompt[-1].role == "assistant":
        raise UnusableRowError(
            "the prompt ends with an answer, so chosen and rejected answer nothing"
        )
    for message in prompt:
        if message.role == "user" and not message.content.strip():
            raise UnusableRowError("a question of the prompt is empty", "empty-question")
    for name, answer in (("chosen", chosen), ("rejected", rejected)):
        _check_answer(name, answer)
    if _said(chosen) == _said(rejected):
        raise UnusableRowError("chosen and rejected are the same", "chosen-equals-rejected")
    tools = tools_of(row)
    check_calls((*prompt, *chosen), tools)
    kwargs = template_kwargs(row.get(TEMPLATE_KWARGS))
    return Preference(tuple(prompt), tuple(chosen), tuple(rejected), context.origin, tools, kwargs)


def _said(messages: Turns) -> list[tuple[object, ...]]:
    """What is compared: who says what; weights and names are not part of it."""
    return [(m.role, m.content, m.reasoning, m.tool_calls) for m in messages]


def _check_answer(name: str, answer: Turns) -> None:
    if not answer:
        raise UnusableRowError(f"{name} has no answer behind the prompt", "empty-answer")
    if answer[0].role != "assistant":
        raise UnusableRowError(f"{name} begins with the {answer[0].role}, not with the assistant")
    if any(m.role == "assistant" and not (m.content.strip() or m.tool_calls) for m in answer):
        raise UnusableRowError(f"{name} is empty", "empty-answer")


def _answer(value: Any, name: str, context: Context) -> list[Message]:
    """An answer as text, as one turn, or as a list of turns."""
    if isinstance(value, str):
        if not value.strip():
            raise UnusableRowError(f"{name} is empty", "empty-answer")
        return [Message("assistant", value)]
    if isinstance(value, dict):
        return [read_message(value, context.spelling, 1)]
    if isinstance(value, list):
        return read_messages(value, context.spelling, name)
    raise UnusableRowError(f"{name} is {kind_of(value)}, not an answer")


def _split(chosen: Turns, rejected: Turns) -> tuple[Turns, Turns, Turns]:
    """The turns both sides begin with, and what follows on each.

    The prompt is the longest beginning they share; both then go on with an answer.
    """
    left, right = _said(chosen), _said(rejected)
    shared = 0
    while shared < min(len(left), len(right)) and left[shared] == right[shared]:
        shared += 1
    if shared == len(chosen) == len(rejected):
        raise UnusableRowError("chosen and rejected are the same", "chosen-equals-rejected")
    for side in (chosen, rejected):
        if shared < len(side) and side[shared].role != "assistant":
            raise UnusableRowError(
                f"chosen and rejected have different prompts, from message {shared + 1} on",
                "pair-prompts-differ",
            )
    return chosen[:shared], chosen[shared:], rejected[shared:]


def _behind(prompt: Turns, answer: Turns, name: str) -> Turns:
    """The answer alone, where it was written with its prompt in front."""
    if not answer or answer[0].role == "assistant":
        return answer
    bare = [m for m in answer if m.role != "system"] if prompt[0].role != "system" else list(answer)
    if _said(bare[: len(prompt)]) != _said(prompt):
        raise UnusableRowError(
            f"{name} repeats another prompt than the row's", "pair-prompts-differ"
        )
    return bare[len(prompt) :]


def _explicit(row: Mapping[str, object], context: Context) -> Preference:
    prompt: Turns
    if isinstance(row["prompt"], str) and _ends_open(row["prompt"]):
        prompt = _transcript(row["prompt"], "prompt", open_end=True)
    else:
        prompt = prompt_turns(row["prompt"], context)
    return _with_prompt(row, context, prompt)


def _with_prompt(row: Mapping[str, object], context: Context, prompt: Turns) -> Preference:
    if not prompt:
        raise UnusableRowError("the pair has no prompt")
    sides = [
        _behind(prompt, _answer(row[name], name, context), name) for name in ("chosen", "rejected")
    ]
    return _pair(row, context, prompt, sides[0], sides[1])


def _chat(row: Mapping[str, object], context: Context) -> Preference:
    return _with_prompt(row, context, turns_of(row, context))


def _instruction(row: Mapping[str, object], context: Context) -> Preference:
    return _with_prompt(row, context, [Message("user", question_text(row, "instruction", "input"))])


def _implicit(row: Mapping[str, object], context: Context) -> Preference:
    chosen, rejected = (_whole(row[name], name, context) for name in ("chosen", "rejected"))
    return _pair(row, context, *_split(chosen, rejected))


def _whole(value: object, name: str, context: Context) -> Turns:
    if isinstance(value, str):
        return _transcript(value, name, open_end=False)
    if not isinstance(value, list):
        raise UnusableRowError(
            f"{name} is {kind_of(value)}, neither a transcript nor a list of messages"
        )
    return read_messages(value, context.spelling, name)


def _ends_open(text: str) -> bool:
    return text.lstrip().startswith("Human:") and text.rstrip().endswith("\n\nAssistant:")


def _transcript(text: str, name: str, *, open_end: bool) -> list[Message]:
    r"""Turns of a text like `\n\nHuman: .. \n\nAssistant: ..`."""
    before, *pieces = _TRANSCRIPT.split(text)
    if before.strip() or not pieces:
        raise UnusableRowError(
            f"there is no prompt, and {name} is no transcript that begins with 'Human:'; "
            "columns: {prompt: NAME, chosen: chosen, rejected: rejected} names the prompt"
        )
    turns = [
        Message("user" if who == "Human" else "assistant", what.strip())
        for who, what in zip(pieces[0::2], pieces[1::2], strict=True)
    ]
    return turns[:-1] if open_end else turns


def _both_whole(row: Mapping[str, object], context: Context) -> Preference:
    chosen = read_messages(row["chosen_messages"], context.spelling, "chosen_messages")
    rejected = read_messages(row["rejected_messages"], context.spelling, "rejected_messages")
    return _pair(row, context, *_split(chosen, rejected))


def _openai(row: Mapping[str, object], context: Context) -> Preference:
    given = row["input"]
    if not isinstance(given, dict) or "messages" not in given:
        raise UnusableRowError("'input' is not an object with messages")
    prompt = read_messages(given["messages"], context.spelling, "the messages of input")
    wanted = read_messages(row["preferred_output"], context.spelling, "preferred_output")
    other = read_messages(row["non_preferred_output"], context.spelling, "non_preferred_output")
    beside = {**row, "tools": given.get("tools") or row.get("tools")}
    return _pair(beside, context, prompt, wanted, other)


def _stack_exchange(row: Mapping[str, object], context: Context) -> Preference:
    prompt = [Message("user", text_of(row["question"], "'question'"))]
    better = _answer(row["response_j"], "response_j", context)
    return _pair(row, context, prompt, better, _answer(row["response_k"], "response_k", context))


def _feedback(row: Mapping[str, object], context: Context) -> Feedback:
    if "prompt" in row:
        turns = prompt_turns(row["prompt"], context)
        turns += _answer(row["completion"], "completion", context)
    else:
        turns = turns_of(row, context)
    if not turns or turns[-1].role != "assistant":
        raise UnusableRowError("the last message is not the answer that was judged")
    label = row["label"] if "label" in row else row["kto_tag"]
    if isinstance(label, str) and label.strip().lower() in ("true", "false"):
        label = label.strip().lower() == "true"
    if not isinstance(label, bool):
        raise UnusableRowError(
            f"'label' is {label!r}, not true or false; if it is no judgement of the answer, name "
            "the columns to use, for example columns: {messages: messages}"
        )
    return Feedback(conversation(row, context, turns), label, context.origin)


_ASK, _YES, _NO = "What is 2 + 2?", "4", "22"
_HUMAN = [{"from": "human", "value": _ASK}]
_USER = {"role": "user", "content": _ASK}
_GOOD, _BAD = {"role": "assistant", "content": _YES}, {"role": "assistant", "content": _NO}
_BESIDE = fields("system tools functions") | {TEMPLATE_KWARGS}


def _format(
    name: str, description: str, required: str, example: Mapping[str, Any], read: Any
) -> Format:
    kind = "feedback" if read is _feedback else "preference"
    optional = _BESIDE | fields("input") if read is _instruction else _BESIDE
    return Format(name, kind, description, fields(required), optional, example, read)  # type: ignore[arg-type]


PREFERENCE_FORMATS = (
    _format(
        "prompt_chosen_rejected",
        "A prompt and two answers, each a text or a list of messages",
        "prompt chosen rejected",
        {"prompt": _ASK, "chosen": _YES, "rejected": _NO},
        _explicit,
    ),
    _format(
        "chosen_rejected",
        "Two whole transcripts (Human: .. Assistant: ..) or message lists that begin alike",
        "chosen rejected",
        {
            "chosen": f"\n\nHuman: {_ASK}\n\nAssistant: {_YES}",
            "rejected": f"\n\nHuman: {_ASK}\n\nAssistant: {_NO}",
        },
        _implicit,
    ),
    _format(
        "conversations_chosen_rejected",
        "ShareGPT turns as the prompt, and two answers: texts or turns",
        "conversations chosen rejected",
        {"conversations": _HUMAN, "chosen": {"from": "gpt", "value": _YES}, "rejected": _NO},
        _chat,
    ),
    _format(
        "messages_chosen_rejected",
        "OpenAI messages as the prompt, and two answers: texts or messages",
        "messages chosen rejected",
        {"messages": [_USER], "chosen": _GOOD, "rejected": _BAD},
        _chat,
    ),
    _format(
        "instruction_chosen_rejected",
        "Alpaca instruction (and input) as the prompt, and two answers",
        "instruction chosen rejected",
        {"instruction": _ASK, "chosen": _YES, "rejected": _NO},
        _instruction,
    ),
    _format(
        "chosen_messages_rejected_messages",
        "Two whole message lists that begin alike",
        "chosen_messages rejected_messages",
        {"chosen_messages": [_USER, _GOOD], "rejected_messages": [_USER, _BAD]},
        _both_whole,
    ),
    _format(
        "openai_preference",
        "OpenAI preference: input with messages, preferred_output, non_preferred_output",
        "input preferred_output non_preferred_output",
        {
            "input": {"messages": [_USER]},
            "preferred_output": [_GOOD],
            "non_preferred_output": [_BAD],
        },
        _openai,
    ),
    _format(
        "stack_exchange",
        "Stack Exchange: question, response_j (better), response_k (worse)",
        "question response_j response_k",
        {"question": _ASK, "response_j": _YES, "response_k": _NO},
        _stack_exchange,
    ),
)

FEEDBACK_FORMATS = (
    _format(
        "messages_label",
        "Messages and whether the last answer is wanted",
        "messages label",
        {"messages": [_USER, _GOOD], "label": True},
        _feedback,
    ),
    _format(
        "conversations_label",
        "ShareGPT turns and whether the last answer is wanted",
        "conversations label",
        {"conversations": [*_HUMAN, {"from": "gpt", "value": _NO}], "label": False},
        _feedback,
    ),
    _format(
        "conversations_kto_tag",
        "ShareGPT turns and kto_tag, whether the last answer is wanted",
        "conversations kto_tag",
        {"conversations": [*_HUMAN, {"from": "gpt", "value": _YES}], "kto_tag": True},
        _feedback,
    ),
    _format(
        "messages_kto_tag",
        "Messages and kto_tag, whether the last answer is wanted",
        "messages kto_tag",
        {"messages": [_USER, _GOOD], "kto_tag": True},
        _feedback,
    ),
    _format(
        "prompt_completion_label",
        "A prompt, an answer, and whether it is wanted",
        "prompt completion label",
        {"prompt": _ASK, "completion": _YES, "label": True},
        _feedback,
    ),
)
