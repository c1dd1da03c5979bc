"""Whether everything that a row says stands in its rendering, in its place: checked for every row.

The proof: the row is rendered again with two marks in each of its parts; where the text is the same
but for the marks, they say exactly which part stands where.  A row whose shape (who speaks, what each
turn has) was proven once needs no second rendering if its parts are found in order.

What may be missing, because templates mean it so, is counted by name: thoughts and texts of earlier
turns that stood in the rendering of their own turn, parts of tool schemas.
"""

import contextlib
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from luthier.data.rendering.chat_text import ChatText
from luthier.data.rendering.drafts import Draft
from luthier.data.rendering.parts import (
    Part,
    call_missing,
    marked,
    parts_of,
    read_marks,
    says,
    sign_of,
    tool_missing,
    written_as,
)
from luthier.data.rendering.template import RowTemplateError
from luthier.data.types import Message

Messages = tuple[Message, ...]
Tools = Sequence[Mapping[str, object]]

EARLIER_THOUGHTS = "earlier_reasoning_left_out"
EARLIER_TEXTS = "earlier_text_left_out"
BESIDE_CALLS = "text_beside_calls_as_thought"
TOOL_PARTS = "tool_parts_left_out"
_MARKS = "".join(map(chr, range(0xF5E0, 0xF600)))
_SHAPES = 10_000
_BLOCKS = re.compile(
    r"(?P<open><(?:think|thinking|seed:think)>|\[THINK\]|<\|channel\|>analysis<\|message\|>)"
    r"|</(?:think|thinking|seed:think)>|\[/THINK\]|<\|end\|>"
)


class KeptVerdict(NamedTuple):
    """What is lost, as a sentence, or None; and the names of what is left out on purpose."""

    lost: str | None
    left_out: frozenset[str]


class _Seen(NamedTuple):
    """A draft read: its text, the beginning of each part found in it, and what is learned."""

    text: str
    places: dict[int, tuple[int, int]]
    learned: list[tuple[int, int]]
    exact: bool


class _Row(NamedTuple):
    """A row as it was rendered: its turns up to the last answer that is learned."""

    messages: Messages
    tools: Tools
    weights: Mapping[int, float]
    parts: Sequence[Part]
    ends: Sequence[int]  # the answer that each draft ends with
    left_out: set[str]

    @property
    def own(self) -> set[int]:
        """Answers that have a draft of their own."""
        return set(self.ends) if len(self.ends) > 1 else set()

    def learned(self, index: int) -> bool:
        """Whether a turn is an answer of which something is learned."""
        return bool(self.weights.get(index))


class Kept:
    """Checks the rendering of rows by one template."""

    def __init__(self, chat: ChatText) -> None:
        self._chat = chat
        self._shapes: set[tuple[object, ...]] = set()
        self._tools: tuple[Tools, list[str]] | None = None

    def check(
        self,
        messages: Messages,
        tools: Tools,
        weights: Mapping[int, float],
        drafts: Sequence[Draft],
        *,
        everything: bool,
    ) -> KeptVerdict:
        """Look for every part of the messages, and for the tools, in the drafts made of them.

        Args:
            weights: Loss weight of each answer that has a span of its own, by its index.
            drafts: What `ChatText.drafts` made of the same arguments.
        """
        if not weights:
            return KeptVerdict(None, frozenset())
        answers = sorted(weights)
        ends = answers if len(drafts) == len(answers) else answers[-1:]
        messages = messages[: answers[-1] + 1]
        row = _Row(messages, tools, weights, parts_of(messages), ends, set())
        shape = _shape(row)
        if shape in self._shapes:
            lost = self._judge(row, [_search(draft, row.parts) for draft in drafts])
            if lost is None:
                return self._with_tools(row, drafts)
            row.left_out.clear()
        seen = self._marked(row, drafts, everything=everything)
        if (lost := self._judge(row, seen)) is not None:
            return KeptVerdict(lost, frozenset())
        if all(one.exact for one in seen) and len(self._shapes) < _SHAPES:
            self._shapes.add(shape)
        return self._with_tools(row, drafts)

    def _marked(self, row: _Row, drafts: Sequence[Draft], *, everything: bool) -> list[_Seen]:
        """The drafts with the place of every part, from a rendering with marks; by searching where
        the template acts upon what the marks part."""
        whole = "".join(draft.text for draft in drafts)
        mark = next((one for one in _MARKS if one not in whole), None)
        again: Sequence[Draft] = ()
        if mark is not None and not any(sign_of(at) in whole for at in range(len(row.parts))):
            with contextlib.suppress(RowTemplateError):  # marks may part what a template looks for
                twins = marked(row.messages, mark)
                again = self._chat.drafts(twins, row.tools, row.weights, everything=everything)
        if len(again) != len(drafts) or mark is None:
            return [_search(draft, row.parts) for draft in drafts]
        return [
            _proven(draft, twin, mark, row.parts) or _search(draft, row.parts)
            for draft, twin in zip(drafts, again, strict=True)
        ]

    def _judge(self, row: _Row, seen: Sequence[_Seen]) -> str | None:
        """What is lost or stands in the wrong place, as a sentence."""
        for end, one in zip(row.ends, seen, strict=True):
            for place, part in enumerate(row.parts):
                if part.message > end:
                    break
                if place not in one.places:
                    excuse = self._excuse(row, part, end)
                    if excuse is None:
                        return self._sentence("leaves out", row, part)
                    row.left_out.add(excuse)
                elif row.learned(part.message) and (said := self._misplaced(row, place, one, end)):
                    return said
            if (said := self._calls(row, one, end)) is not None:
                return said
        return None

    def _excuse(self, row: _Row, part: Part, end: int) -> str | None:
        """Why a part may be missing: what a template leaves out of earlier turns, which had a text
        of their own or carry no loss."""
        index = part.message
        if row.messages[index].role != "assistant" or index == end:
            return None
        if part.kind == "thought" and (index in row.own or not row.learned(index)):
            return EARLIER_THOUGHTS
        if index in row.own or (not row.learned(index) and self._stood(row, part)):
            return EARLIER_TEXTS
        return None

    def _stood(self, row: _Row, part: Part) -> bool:
        """Whether an answer that is not learned stood in the rendering that ends with it."""
        turns, weights = row.messages[: part.message + 1], {part.message: 1.0}
        try:
            alone = self._chat.drafts(turns, row.tools, weights, everything=False)
        except RowTemplateError:
            return False
        return any(part.text in plain_text(draft) for draft in alone)

    def _misplaced(self, row: _Row, place: int, one: _Seen, end: int) -> str | None:
        """What is wrong with where a learned answer stands."""
        part, (start, stop) = row.parts[place], one.places[place]
        here = part.message == end or part.message not in row.own
        if here and not any(first <= start and stop <= last for first, last in one.learned):
            return self._sentence("writes outside of what is learned", row, part)
        if part.kind == "thought" or _in_own_block(row.messages[part.message], part):
            return None
        before = [
            span[1] for at, span in one.places.items() if row.parts[at].message < part.message
        ]
        block = None
        for found in _BLOCKS.finditer(one.text, max(before, default=0), start):
            block = found["open"]
        if not block:
            return None
        if row.messages[part.message].tool_calls and "channel" in block:
            row.left_out.add(BESIDE_CALLS)
            return None
        return self._sentence("writes inside a thinking block", row, part)

    def _calls(self, row: _Row, one: _Seen, end: int) -> str | None:
        """What of a call is not written between the turns around it."""
        for index, message in enumerate(row.messages[: end + 1]):
            if not message.tool_calls:
                continue
            found = [(row.parts[at].message, span) for at, span in one.places.items()]
            start = max((span[1] for other, span in found if other < index), default=0)
            stop = min((span[0] for other, span in found if other > index), default=len(one.text))
            region = one.text[start:stop]
            for call in message.tool_calls:
                if (lost := call_missing(call, region)) is not None:
                    name = self._chat.name
                    return f"the chat template ({name}) leaves out {lost} in message {index + 1}"
        return None

    def _with_tools(self, row: _Row, drafts: Sequence[Draft]) -> KeptVerdict:
        if row.tools:
            if self._tools is None or self._tools[0] != row.tools:
                name, lacking = tool_missing(row.tools, plain_text(drafts[-1]))
                if name is not None:
                    said = f"the chat template ({self._chat.name}) leaves out the tool {name}"
                    return KeptVerdict(said, frozenset())
                self._tools = (row.tools, lacking)
            if self._tools[1]:
                row.left_out.add(TOOL_PARTS)
        return KeptVerdict(None, frozenset(row.left_out))

    def _sentence(self, does: str, row: _Row, part: Part) -> str:
        role = row.messages[part.message].role
        what = "the answer" if role == "assistant" else "the text"
        what = "the reasoning" if part.kind == "thought" else what
        shown = part.text if len(part.text) < 40 else part.text[:40] + "..."
        where = f"message {part.message + 1} ({role})"
        return f"the chat template ({self._chat.name}) {does} {what} of {where}: {shown!r}"


def _in_own_block(message: Message, part: Part) -> bool:
    """Whether an answer itself opens a thinking block in front of a part and leaves it open."""
    before = message.content[: max(message.content.find(part.text), 0)]
    return before.rfind("<think") > before.rfind("</think")


def plain_text(draft: Draft) -> str:
    """The text of a draft as it is encoded."""
    return draft.text.replace(draft.nonce, "") if draft.nonce else draft.text


def _learned(draft: Draft) -> list[tuple[int, int]]:
    """What is learned as answers, in places of the plain text."""
    made: list[tuple[int, int]] = []
    for start, stop, _, kind in draft.spans:
        if kind != "answer":
            continue
        if draft.nonce:
            start -= draft.text.count(draft.nonce, 0, start)
            stop -= draft.text.count(draft.nonce, 0, stop)
        if made and made[-1][1] == start:
            made[-1] = (made[-1][0], stop)
        else:
            made.append((start, stop))
    return made


def _search(draft: Draft, parts: Sequence[Part]) -> _Seen:
    """Parts found one behind the other, as they are or inside JSON."""
    text, done = plain_text(draft), 0
    places: dict[int, tuple[int, int]] = {}
    for place, part in enumerate(parts):
        for way in written_as(part.text):
            at = text.find(way, done)
            if at >= 0:
                places[place] = (at, at + len(way))
                done = at + len(way)
                break
    return _Seen(text, places, _learned(draft), False)


def _proven(draft: Draft, twin: Draft, mark: str, parts: Sequence[Part]) -> _Seen | None:
    """Parts found by their marks; None where the two texts differ in more than marks."""
    text = plain_text(draft)
    again, marks = read_marks(plain_text(twin), mark)
    if again != text:
        return None
    places = {}
    for place, part in enumerate(parts):
        found = marks.get(sign_of(place), ())
        if len(found) < 2:
            continue
        start, stop = found[-2:]
        if says(text[start:stop], part.text[1:-1]):
            short = len(part.text) < 2
            places[place] = (max(start - 1, 0), stop if short else stop + 1)
    return _Seen(text, places, _learned(draft), True)


def _shape(row: _Row) -> tuple[object, ...]:
    """All that a template's choice of what to write may hang on, but for the texts themselves."""
    kinds: list[list[str]] = [[] for _ in row.messages]
    for part in row.parts:
        kinds[part.message].append(part.kind)
    turns = tuple(
        (
            message.role,
            tuple(kinds[index]),
            len(message.tool_calls),
            message.reasoning is not None,
            index in row.weights,
        )
        for index, message in enumerate(row.messages)
    )
    return (bool(row.tools), turns)
