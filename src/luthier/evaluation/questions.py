"""Questions with options, as published benchmarks write them.

Columns A, B, C ... (MMLU, CMMLU), `option_a` ... (Global MMLU, nested too), lists `choices` or `options`
(also ARC's texts and labels): the options are listed with letters in the question, and the letter is
what a model chooses.  `choice1`, `choice2` (COPA) and `endings` (HellaSwag): their texts are what it
chooses.  A chat whose question lists `A. ...` itself and whose answer is a letter is one as well.
"""

import re
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from luthier.data.types import BadRow, Conversation, Message, Origin, Row

_QUESTION = ("question", "prompt", "query", "problem", "stem", "ctx", "premise", "input")
_RIGHT = ("answer", "answerkey", "answer_key", "label", "gold", "target", "correct", "ans")
_LISTS = ("choices", "options", "endings")
_LETTERS = string.ascii_uppercase[:10]
_LISTED = re.compile(r"^\s*\(?([A-J])[.)、．:：]\s*\S", re.MULTILINE)
_CAUSE = {"cause": "What was the cause of this?", "effect": "What happened as a result?"}


@dataclass(frozen=True)
class Question:
    """A prompt and the answers to choose from.

    Attributes:
        messages: What is asked; system text and earlier turns included.
        options: The answers whose probability is asked for.
        right: Index of the right one.
        lettered: Whether the options are letters of a list in the question.
    """

    messages: tuple[Message, ...]
    options: tuple[str, ...]
    right: int
    origin: Origin
    lettered: bool

    def with_option(self, index: int) -> Conversation:
        """The chat in which that option is the answer."""
        answer = Message("assistant", self.options[index])
        return Conversation((*self.messages, answer), self.origin)


class _BrokenError(ValueError):
    """The row has options, and cannot be asked."""


def read_question(row: Row) -> Question | BadRow | None:
    """The question of a row; None where its columns are no options."""
    fields = _flat(row.fields)
    found = _options(fields)
    if found is None:
        return None
    options, labels, lettered = found
    try:
        if len(options) < 2:
            raise _BrokenError(f"it has {len(options)} options")
        right = _right(fields, options, labels)
        text = _text(fields)
    except _BrokenError as error:
        return BadRow(row.origin, f"a question with options, and {error}")
    if lettered:
        listed = zip(_LETTERS, options, strict=False)
        text = "\n".join([text, *(f"{letter}. {option}" for letter, option in listed), "Answer:"])
        options = list(_LETTERS[: len(options)])
    return Question((Message("user", text),), tuple(options), right, row.origin, lettered)


def question_of_chat(sample: Conversation) -> Question | None:
    """The question of a chat that lists its options itself; None where it does not."""
    *before, last = sample.messages
    if last.role != "assistant" or sample.tools or sample.template_kwargs:
        return None
    asked = next((m.content for m in reversed(before) if m.role == "user"), "")
    listed = _LISTED.findall(asked)
    begin = max((place for place, letter in enumerate(listed) if letter == "A"), default=0)
    pairs = zip(listed[begin:], _LETTERS, strict=False)  # the last list: examples come before it
    letters = [letter for letter, expected in pairs if letter == expected]
    answer = last.content.strip()
    if len(letters) < 2 or letters != listed[begin:] or answer not in letters:
        return None
    right = letters.index(answer)
    return Question(tuple(before), tuple(letters), right, sample.origin, True)


def _flat(fields: Mapping[str, object]) -> dict[str, object]:
    """Names in small letters; one nested prompt is put beside the rest."""
    plain = {str(name).strip().lower(): value for name, value in fields.items()}
    nested: object = plain.get("prompts")
    if isinstance(nested, list) and len(nested) == 1 and isinstance(nested[0], Mapping):
        plain = {**{str(k).lower(): v for k, v in nested[0].items()}, **plain}
    return plain


def _options(fields: Mapping[str, Any]) -> tuple[list[str], list[str], bool] | None:
    """Options, what the answer may call them, and whether they are listed with letters."""
    for prefix in ("", "option_", "option ", "choice_"):
        names = [prefix + letter.lower() for letter in _LETTERS]
        if names[0] in fields and names[1] in fields:
            # A column may be empty in rows with fewer options.
            texts = [_plain(fields[name]) for name in names if name in fields]
            while texts and not texts[-1]:
                texts.pop()
            return texts, list(_LETTERS[: len(texts)]), True
    if "choice1" in fields and "choice2" in fields:
        names = [f"choice{n}" for n in range(1, 10) if f"choice{n}" in fields]
        return [_plain(fields[name]) for name in names], [], False
    for name in _LISTS:
        found: Any = fields.get(name)
        labels: Any = _LETTERS
        if isinstance(found, Mapping):
            found, labels = found.get("text"), found.get("label")
        if isinstance(found, list) and found and all(isinstance(one, str) for one in found):
            known = [str(one) for one in labels or ()][: len(found)]
            return list(found), known, name != "endings"
    return None


def _right(fields: Mapping[str, Any], options: Sequence[str], labels: Sequence[str]) -> int:
    """Index of the right option: a label, a number from 0, or the option itself."""
    name = next((name for name in _RIGHT if name in fields), None)
    if name is None:
        raise _BrokenError(f"no column says which is right ({', '.join(_RIGHT[:4])})")
    given = fields[name]
    text = _plain(given).strip("().")
    if text in labels:
        index = list(labels).index(text)
    elif text.upper() in labels:
        index = list(labels).index(text.upper())
    elif text.isdecimal() and not isinstance(given, bool):
        index = int(text[:4])
    elif options.count(_plain(given)) == 1:
        index = options.index(_plain(given))
    else:
        raise _BrokenError(f"{name} {str(given)[:60]!r} names none of them")
    if index >= len(options):
        raise _BrokenError(f"{name} {str(given)[:60]!r} is beyond its {len(options)} options")
    return index


def _text(fields: Mapping[str, object]) -> str:
    if "premise" in fields and _plain(fields.get("question")) in _CAUSE:
        return f"{_plain(fields['premise'])}\n{_CAUSE[_plain(fields['question'])]}"
    name = next((name for name in _QUESTION if _plain(fields.get(name))), None)
    if name is None:
        raise _BrokenError(f"no column asks anything ({', '.join(_QUESTION[:4])})")
    return _plain(fields[name])


def _plain(value: object) -> str:
    return "" if value is None else str(value).strip()
