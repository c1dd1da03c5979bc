"""Rows without a chat template: text as it stands, conversations as their contents in a row.

Control tokens written in the row are control tokens here.  A system prompt goes where the form of the
text has its place for one; where it has none, and the row begins with a control token, it is refused.
"""

import re
from collections.abc import Mapping, Sequence

from luthier.data.rendering.drafts import Draft, Span
from luthier.data.rendering.template import RowTemplateError
from luthier.data.rendering.turns import Messages, has_system
from luthier.data.tokens.tokenizer import Tokenizer
from luthier.data.types import Text
from luthier.errors import FormatError

_LLAMA2 = re.compile(r"\A(?P<head>\s*(?:<s>\s*)?\[INST\]\s?)")
_LLAMA2_ANSWER = re.compile(r"\[/INST\](?P<answer>.*?(?:</s>|(?=<s>|\[INST\])|\Z))", re.DOTALL)
_GUANACO_ANSWER = re.compile(r"### Assistant:(?P<answer>.*?)(?=### Human:|\Z)", re.DOTALL)
_SYSTEM_MARK = "<<SYS>>"


def own_system(sample: Text | Messages) -> bool:
    """Whether a row carries system text of its own."""
    return _SYSTEM_MARK in sample.text if isinstance(sample, Text) else has_system(sample)


def text_draft(
    sample: Text, tokenizer: Tokenizer, *, system_prompt: str | None, train_on: str | None
) -> Draft:
    """A `text` row: all of it is learned, or the answers of a recognised form if `train_on` says so.

    Raises:
        FormatError: `train_on` asks for answers, and the form of the text is not known.
        RowTemplateError: The system prompt has no place.
    """
    form = sample.form
    text = sample.text
    if system_prompt and not own_system(sample):
        text = place_system(text, system_prompt, form, tokenizer)
    if train_on in (None, "all"):
        return _bounded(text, [Span(0, len(text), 1.0, "text")], tokenizer)
    answers = {"llama2": _LLAMA2_ANSWER, "guanaco": _GUANACO_ANSWER}.get(form)
    if answers is None:
        raise FormatError(
            f"train_on: {train_on} was given, and {sample.origin} is text in which no answers are known",
            why="answers are found in Llama-2 ([INST]) and Guanaco (### Human:) text only",
            fix="train_on: all, or rows with messages",
        )
    found = [match.span("answer") for match in answers.finditer(text)]
    found = [span for span in found if text[slice(*span)].strip()]
    if train_on == "last_assistant":
        found = found[-1:]
    spans = [Span(start, stop, 1.0, "answer") for start, stop in found]
    return _bounded(text[: found[-1][1]] if found else text, _filled(spans), tokenizer)


def conversation_draft(
    messages: Messages,
    weights: Mapping[int, float],
    tokenizer: Tokenizer,
    *,
    system_prompt: str | None,
    everything: bool,
) -> Draft:
    """Contents one behind the other, nothing between them; answers are learned.

    Raises:
        RowTemplateError: The row has tool calls, or the system prompt has no place.
    """
    if any(message.tool_calls for message in messages):
        raise RowTemplateError(
            "the row has tool calls, and apply_chat_template is false",
            why="without a template nothing says how a call is written",
            fix="apply_chat_template: true",
        )
    if weights:
        messages = messages[: max(weights) + 1]
    text, spans = "", []
    for index, message in enumerate(messages):
        content = message.content
        if index == 0 and system_prompt and not has_system(messages):
            content = place_system(content, system_prompt, _form(content), tokenizer)
        answer = message.role == "assistant"
        weight = weights.get(index, 1.0 if everything and not answer else 0.0)
        kind = "answer" if answer else "prompt"
        if content:
            spans.append(Span(len(text), len(text) + len(content), weight, kind))
        text += content
    return _bounded(text, spans, tokenizer)


def place_system(text: str, system_prompt: str, form: str, tokenizer: Tokenizer) -> str:
    """The text with a system prompt put where its form has the place for one."""
    if form == "llama2" and (found := _LLAMA2.match(text)):
        head = found["head"]
        return f"{head}{_SYSTEM_MARK}\n{system_prompt}\n<</SYS>>\n\n{text[len(head) :]}"
    if form == "guanaco":
        return f"{system_prompt}\n\n{text}"
    bos = tokenizer.bos
    head = bos if bos and text.startswith(bos) else ""
    rest = text[len(head) :]
    first = next(tokenizer.find_controls(rest), None)
    if first is not None and not rest[: first[0]].strip():
        marker = rest[first[0] : first[1]].strip()
        raise RowTemplateError(
            f"system_prompt has no place in a row that begins with the control token {marker}",
            why="apply_chat_template is false, and only Llama-2 and Guanaco text have a known place",
            fix="write the system text into the rows, or leave system_prompt out",
        )
    return f"{head}{system_prompt}{rest}"


def _form(text: str) -> str:
    return "llama2" if _LLAMA2.match(text) else "plain"


def _bounded(text: str, spans: Sequence[Span], tokenizer: Tokenizer) -> Draft:
    """With the BOS the tokenizer gives and the EOS a text ends with, each unless already there."""
    bos = tokenizer.bos
    begin = tokenizer.bos_id if tokenizer.adds_bos and not text.startswith(bos) else None
    ended = _ends(text, tokenizer)
    return Draft(text, tuple(spans), begin=begin, finish=None if ended else tokenizer.eos_id)


def _ends(text: str, tokenizer: Tokenizer) -> bool:
    last = None
    for last in tokenizer.find_controls(text):  # noqa: B007  the last one is wanted
        pass
    return last is not None and last[2] in tokenizer.stop_ids and not text[last[1] :].strip()


def _filled(spans: Sequence[Span]) -> list[Span]:
    made: list[Span] = []
    done = 0
    for span in spans:
        if span.start > done:
            made.append(Span(done, span.start, 0.0, "prompt"))
        made.append(span)
        done = span.stop
    return made
