"""From messages to text with known spans: what the model is given, and what it must write.

Spans come from rendering prefixes, never from searching for markers.  An answer is what the template
writes for `messages[:i + 1]` beyond the generation prompt of `messages[:i]`, up to and with its
terminator.  Where a template rewrites earlier turns, that text is no part of the whole rendering,
and each answer becomes a text of its own behind the prompt that inference would give.

Content is kept apart from control: where content holds the text of a control token, it is rendered
with a private-use character inside every such text; what is found whole is the template's.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from luthier.data.rendering import thoughts
from luthier.data.rendering.content import broken, strings, thoughts_apart, thoughts_dropped
from luthier.data.rendering.drafts import (
    Draft,
    Span,
    joined_spans,
    same_but_for_space,
    shared_length,
)
from luthier.data.rendering.probe import TemplateFacts
from luthier.data.rendering.template import ChatTemplate, RowTemplateError, message_dicts, wrap_tool
from luthier.data.rendering.turns import has_system
from luthier.data.tokens.tokenizer import Tokenizer
from luthier.data.types import Message

_NONCES = "".join(map(chr, range(0xF5A0, 0xF5E0)))
_QUICK_FROM = 3  # answers in a conversation
_HELD = 2_000_000  # characters of renderings that are remembered, a message counted as 200
_REACH = 256  # characters behind an answer in which its terminator is looked for

Messages = tuple[Message, ...]
Tools = Sequence[Mapping[str, Any]]


class Answer(NamedTuple):
    """One assistant turn: the prompt it follows, what it does not learn, what it learns."""

    prompt: str
    given: str  # an empty thinking block: written by the template, not by the model
    body: str  # the answer with its terminator
    ended: bool  # the body ends with a terminator


class _Row(NamedTuple):
    tools: Tools
    nonce: str  # empty: no content can be mistaken for control
    texts: dict[tuple[int, bool], str]  # rendered prefixes: number of messages, prompt or not


class _Rendered(NamedTuple):
    """A text, and what it was made of."""

    text: str
    messages: Messages
    tools: Tools


class ChatText:
    """Renders conversations with spans for one template and tokenizer."""

    def __init__(self, template: ChatTemplate, tokenizer: Tokenizer, facts: TemplateFacts) -> None:
        self._template, self._tokenizer, self.facts = template, tokenizer, facts
        self._steadiness: dict[tuple[bool, bool], bool] = {}
        self._rendered: dict[tuple[object, ...], _Rendered] = {}
        self._held = 0
        self.name = template.name or "given"

    def prompt(self, messages: Messages, tools: Tools) -> Draft:
        """What the model is given before its next answer."""
        row = self._row(messages, tools)
        text = self._prompt_text(messages, row)
        return Draft(text, joined_spans(text, self._history(text, messages, row), []), row.nonce)

    def drafts(
        self, messages: Messages, tools: Tools, weights: Mapping[int, float], *, everything: bool
    ) -> list[Draft]:
        """One text with all supervised answers, or one text an answer if the template rewrites.

        Args:
            weights: Loss weight of each supervised assistant message, by its index.
            everything: Prompt text carries loss too (weight 1).

        Raises:
            RowTemplateError: The template refuses the messages.
        """
        row = self._row(messages, tools)
        if not weights:
            text = self._text(messages, row, prompt=False)
            return [
                Draft(text, (Span(0, len(text), 1.0 if everything else 0.0, "all"),), row.nonce)
            ]
        messages = messages[: max(weights) + 1]
        if whole := self._quick(messages, row, weights, everything=everything):
            return [whole]
        return self._one_by_one(messages, row, weights, everything=everything)

    def _one_by_one(
        self, messages: Messages, row: _Row, weights: Mapping[int, float], *, everything: bool
    ) -> list[Draft]:
        """By rendering every prefix: right for every template, quadratic in the number of turns."""
        answers = {index: self._answer(messages, index, row) for index in weights}
        if len(answers) > 1 and (whole := self._whole(messages, row, answers, weights, everything)):
            return [whole]
        made: list[Draft] = []
        for index, answer in answers.items():
            history = self._history(answer.prompt, messages[:index], row)
            made.append(self._single(answer, history, weights[index], row, everything, made))
        return made

    def _quick(
        self, messages: Messages, row: _Row, weights: Mapping[int, float], *, everything: bool
    ) -> Draft | None:
        """The whole conversation from three renderings, where the template is known to be steady and
        every answer stands in it as it did when the template was probed."""
        turns = [index for index, message in enumerate(messages) if message.role == "assistant"]
        plain = not any(messages[index].tool_calls or messages[index].reasoning for index in turns)
        if len(turns) < _QUICK_FROM or row.nonce or not plain or self.facts.terminator is None:
            return None
        if not self._steady(system=has_system(messages), tools=row.tools):
            return None
        text = self._text(messages, row, prompt=False)
        if not text.startswith(self._prompt_text(messages[: turns[-1]], row)):
            return None
        places = self._places(text, messages, turns, row)
        if places is None:
            return None
        spans = [
            Span(start, stop, weights[index], "answer")
            for index, (start, stop) in zip(turns, places, strict=True)
            if index in weights
        ]
        text = text[: spans[-1].stop]
        background = (0, 1.0) if everything else (len(text), 0.0)
        starts = [start for start, _ in places if start < len(text)]
        return Draft(text, joined_spans(text, starts, spans, background))

    def _places(
        self, text: str, messages: Messages, turns: Sequence[int], row: _Row
    ) -> list[tuple[int, int]] | None:
        """Where each answer begins and ends in the text, from a rendering with marks around them."""
        free = [mark for mark in _NONCES if mark not in text]
        if len(free) < 2:
            return None
        opened, closed = free[:2]
        dicts = message_dicts(messages)
        edges: list[str] = []
        for index in turns:
            content = messages[index].content
            core = content.strip()
            edges.append(content[: content.index(core)] if core else "")
            dicts[index]["content"] = (
                content.replace(core, f"{opened}{core}{closed}", 1) if core else ""
            )
        marked = self._template.render_dicts(dicts, row.tools, add_generation_prompt=False)
        parts = marked.replace(closed, opened).split(opened)
        if "".join(parts) != text or len(parts) != 2 * len(turns) + 1:
            return None
        made, done = [], 0
        lead, opening = self.facts.lead, self.facts.opening
        for edge, before, core in zip(edges, parts[0::2], parts[1::2], strict=False):
            begin = done + len(before)
            kept = edge if before.endswith(lead + edge) else ""
            start = begin - len(lead) - len(kept)
            if not text[:begin].endswith(opening + lead + kept):
                return None
            done = begin + len(core)
            found = next(self._tokenizer.find_controls(text[done : done + _REACH]), None)
            if found is None or text[done : done + found[0]].strip():
                return None
            token = text[done + found[0] : done + found[1]]
            if token.strip() != self.facts.terminator:
                return None
            made.append((start, done + found[0] + token.index(token.strip()) + len(token.strip())))
        return made

    def _steady(self, *, system: bool, tools: Tools) -> bool:
        """Whether the template leaves earlier turns as they were, tried on a conversation of three."""
        key = (system, bool(tools))
        if key not in self._steadiness:
            turns = [Message("user" if at % 2 == 0 else "assistant", f"q{at}q") for at in range(6)]
            messages = (*((Message("system", "qsq"),) if system else ()), *turns)
            weights = {
                at: 1.0 for at, message in enumerate(messages) if message.role == "assistant"
            }
            try:
                row = self._row(messages, tools[:1])
                made = self._one_by_one(messages, row, weights, everything=False)
            except RowTemplateError:
                made = []
            block = thoughts.EMPTY.match(self.facts.lead)
            self._steadiness[key] = len(made) == 1 and block is None
        return self._steadiness[key]

    def _single(
        self,
        answer: Answer,
        history: list[int],
        weight: float,
        row: _Row,
        everything: bool,
        earlier: list[Draft],
    ) -> Draft:
        start = len(answer.prompt) + len(answer.given)
        text = answer.prompt + answer.given + answer.body
        spans = [Span(start, len(text), weight, "answer")]
        known = shared_length(earlier[-1].text, text) if earlier else 0
        background = (min(known, start), 1.0) if everything else (start, 0.0)
        return Draft(
            text,
            joined_spans(text, [*history, len(answer.prompt)], spans, background),
            row.nonce,
            finish=self._finish(answer),
        )

    def _whole(
        self,
        messages: Messages,
        row: _Row,
        answers: Mapping[int, Answer],
        weights: Mapping[int, float],
        everything: bool,
    ) -> Draft | None:
        """All answers in the rendering of the whole conversation, if they stand there unchanged."""
        last = answers[max(answers)]
        text = last.prompt + last.given + last.body
        spans = []
        for index, answer in answers.items():
            start = len(answer.prompt) + len(answer.given)
            if not text.startswith(answer.prompt + answer.given + answer.body):
                return None
            spans.append(Span(start, start + len(answer.body), weights[index], "answer"))
        history = self._history(text, messages, row)
        starts = [len(answer.prompt) for answer in answers.values()]
        background = (0, 1.0) if everything else (len(text), 0.0)
        joined = joined_spans(text, [*history, *starts], spans, background)
        return Draft(text, joined, row.nonce, finish=self._finish(last))

    def _finish(self, answer: Answer) -> int | None:
        return None if answer.ended else self._tokenizer.eos_id

    def _answer(self, messages: Messages, index: int, row: _Row) -> Answer:
        prompt = self._prompt_text(messages[:index], row)
        full = self._text(messages[: index + 1], row, prompt=False)
        whole = full.startswith(prompt)
        tail = full[len(prompt) :] if whole else self._behind(full, prompt, messages[:index], row)
        message, given = messages[index], ""
        block = thoughts.opened(prompt)
        if block and not (whole and block.closing in tail):
            given, tail = self._closed(block, message, tail, row)
        elif not (message.reasoning or "").strip():
            given = self._given(tail, block)
            tail = tail[len(given) :]
        stop = self._end(tail)
        return Answer(prompt, given, tail[: stop or len(tail)], stop is not None)

    def _closed(
        self, block: thoughts.OpenThought, message: Message, tail: str, row: _Row
    ) -> tuple[str, str]:
        """What is given and what is learned behind a prompt that thinks already."""
        thought = thoughts.thought_of(message).strip()
        if row.nonce:
            thought = self._tokenizer.break_controls(thought, row.nonce)
        written = thoughts.inline(tail)
        if written and written[0].strip() == thought:
            tail = written[1]
        return thoughts.closed(block, thought, tail)

    def _given(self, tail: str, block: thoughts.OpenThought | None) -> str:
        """An empty thinking block, or the end of one, at the start of what the template writes."""
        if block is not None:
            head = tail.lstrip()
            if not head.startswith(block.closing):
                return ""
            rest = head[len(block.closing) :]
            return tail[: len(tail) - len(rest.lstrip("\n"))]
        found = thoughts.EMPTY.match(tail)
        if found is None:
            return ""
        lead = self.facts.lead
        return lead if found.group() in lead and tail.startswith(lead) else found.group()

    def _behind(self, full: str, prompt: str, before: Messages, row: _Row) -> str:
        """The answer where the template writes it otherwise than behind its own generation prompt:
        a thinking block that it opens in the prompt and drops from the answer, or other white space.
        """
        head = self._text(before, row, prompt=False) + self.facts.bridge
        if self.facts.bridge and full.startswith(head):
            return full[len(head) :]
        if (at := same_but_for_space(full, prompt)) is not None:
            return full[at:]
        raise RowTemplateError(
            "the chat template does not write the answer behind what it writes before it",
            why="what the model must say after its prompt cannot be told from the prompt",
            fix="chat_template: FILE.jinja with one that does",
        )

    def _end(self, tail: str) -> int | None:
        """Where the answer's terminator ends, or None if the template writes none."""
        ending: list[tuple[str, int]] = []
        done = 0
        for start, stop, _ in self._tokenizer.find_controls(tail):
            if tail[done:start].strip():
                ending.clear()
            token = tail[start:stop].strip()
            ending.append((token, start + tail[start:stop].index(token) + len(token)))
            done = stop
        if tail[done:].strip():
            return None
        usual = [stop for token, stop in ending if token == self.facts.terminator]
        others = [stop for token, stop in ending if self._tokenizer.ends_turn(token)]
        return next(iter(usual or others), None)

    def _history(self, text: str, messages: Messages, row: _Row) -> list[int]:
        """Where earlier answers begin in `text`: their tokens begin there too, as when they were
        written."""
        starts = []
        for index, message in enumerate(messages):
            if message.role == "assistant" and index > 0:
                prompt = self._prompt_text(messages[:index], row)
                if text.startswith(prompt):
                    starts.append(len(prompt))
        return starts

    def _prompt_text(self, messages: Messages, row: _Row) -> str:
        return self._text(messages, row, prompt=True) + self.facts.header

    def _row(self, messages: Messages, tools: Tools) -> _Row:
        dicts, wrapped = message_dicts(messages), [wrap_tool(tool) for tool in tools]
        texts = list(strings([dicts, wrapped]))
        if not any(self._tokenizer.holds_control(text) for text in texts):
            return _Row(wrapped, "", {})
        free = (nonce for nonce in _NONCES if not any(nonce in text for text in texts))
        nonce = next(free, None)
        if nonce is None:
            raise RowTemplateError(
                "the text holds control tokens and every private-use character luthier could mark "
                "them with",
                why="control tokens in content are told apart by a character that it does not hold",
                fix="remove the characters U+F5A0 to U+F5DF from the row",
            )
        return _Row(wrapped, nonce, {})

    def _text(self, messages: Messages, row: _Row, *, prompt: bool) -> str:
        key = (len(messages), prompt)
        if key not in row.texts:
            row.texts[key] = self._remembered(messages, row, prompt=prompt)
        return row.texts[key]

    def _remembered(self, messages: Messages, row: _Row, *, prompt: bool) -> str:
        """A row that is cut is written many times, with the same turns in front: each only once.

        Objects are told apart by their place in memory; what is remembered keeps them there.
        """
        inner = tuple(
            (message.role, id(message.content), id(message.reasoning), id(message.tool_calls))
            for message in messages
        )
        beside = tuple((message.tool_call_id, message.name) for message in messages)
        key = (prompt, row.nonce, tuple(map(id, row.tools)), inner, beside)
        if (known := self._rendered.get(key)) is None:
            known = _Rendered(self._render(messages, row, prompt=prompt), messages, row.tools)
            self._held += (size := len(known.text) + 200 * len(messages))
            if self._held > _HELD:
                self._rendered.clear()
                self._held = size
            self._rendered[key] = known
        return known.text

    def _render(self, messages: Messages, row: _Row, *, prompt: bool) -> str:
        dicts = message_dicts(messages)
        if self.facts.null_content:
            for made in dicts:
                if "tool_calls" in made and not made["content"]:
                    made["content"] = None
        text = self._template.render_dicts(dicts, row.tools, add_generation_prompt=prompt)
        if not row.nonce:
            return text
        tools = broken(row.tools, self._tokenizer, row.nonce)
        for variant in (dicts, thoughts_apart(dicts), thoughts_dropped(dicts)):
            content = broken(variant, self._tokenizer, row.nonce)
            try:
                marked = self._template.render_dicts(content, tools, add_generation_prompt=prompt)
            except RowTemplateError:
                continue
            if marked.replace(row.nonce, "") == text:
                return marked
        raise RowTemplateError(
            "the text of a message holds control tokens that the chat template acts upon",
            why="content can never become a control token, and here the two cannot be told apart",
            fix="remove them; give thinking as `reasoning_content` and calls as `tool_calls`",
        )
