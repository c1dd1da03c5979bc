"""Rows to token ids with the loss weight of every token: what training, preview and chat share.

A weight belongs to a token *as a target*.  `Renderer.explain` shows the same pieces that training
gets, with their text.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Sequence as Items
from dataclasses import replace
from typing import Literal

from luthier.data.rendering import truncate
from luthier.data.rendering.answers import (
    empty_answer,
    judged,
    only_answer,
    pair_problem,
    told_apart,
    with_label,
)
from luthier.data.rendering.chats import Chat, Chats, require, require_pair
from luthier.data.rendering.drafts import Draft, Piece, pieces, sequence_of
from luthier.data.rendering.plain_text import conversation_draft, own_system, text_draft
from luthier.data.rendering.probe import TemplateFacts
from luthier.data.rendering.published import Published, published
from luthier.data.rendering.template import ChatTemplate, RowTemplateError, TemplateText
from luthier.data.rendering.thoughts import with_openings
from luthier.data.rendering.turns import (
    Messages,
    last_assistant,
    merged_system,
    with_call_ids,
    with_system,
)
from luthier.data.tokens.tokenizer import Tokenizer
from luthier.data.types import (
    BadRow,
    Conversation,
    Example,
    Feedback,
    Ids,
    LongRow,
    Message,
    Origin,
    Preference,
    Sample,
    Sequence,
    Text,
)
from luthier.errors import DataError

TrainOn = Literal["assistant", "last_assistant", "all"]
Truncation = Literal["prompt_start", "answer_end", "drop", "refuse"]
Tools = Items[Mapping[str, object]]
Kwargs = Mapping[str, object]

UNLIMITED = 2**31 - 1
"""As `seq_length`: nothing is cut."""


class Renderer:
    """Turns samples into examples.

    Args:
        template: None is `apply_chat_template: false`.
        train_on: None is the default: assistant turns of conversations, all of `text` rows.
        seq_length: Most tokens of one sequence, at least 2.

    Attributes:
        notices: What to tell the user once, in the order it came up.
        counts: `own_system_prompt`, `merged_system_prompt`, `control_tokens_in_text` and the like.
        left_out: Rows of which the template leaves something out on purpose, by what it is.

    Raises:
        TemplateError: The template leaves out user or assistant text altogether.
    """

    template: TemplateText | None

    def __init__(
        self,
        tokenizer: Tokenizer,
        template: ChatTemplate | None,
        *,
        objective: str = "sft",
        train_on: TrainOn | None = None,
        system_prompt: str | None = None,
        seq_length: int = 2048,
        truncation: Truncation = "prompt_start",
    ) -> None:
        self.tokenizer, self.template = tokenizer, template
        self.objective, self.train_on, self.truncation = objective, train_on, truncation
        self.system_prompt, self.seq_length = system_prompt, max(seq_length, 2)
        self.notices: list[str] = []
        self.counts: Counter[str] = Counter()
        self.controls: Counter[str] = Counter()
        self.left_out: Counter[str] = Counter()
        self._chats = None if template is None else Chats(template, tokenizer)
        if self._chats is not None:
            self.notices += self._chats.notices

    @property
    def facts(self) -> TemplateFacts | None:
        """What the template does with rows without tools; None without a template."""
        return None if self._chats is None else self._chats.usual.facts

    @property
    def stop_ids(self) -> frozenset[int]:
        """Ids that end an answer: those of the tokenizer and the templates' terminators."""
        return self.tokenizer.stop_ids if self._chats is None else self._chats.stop_ids

    def render(self, sample: Sample) -> Example | BadRow:
        """The sequences of a sample, or why it cannot be used.

        Raises:
            TemplateError: The template has no place for something this row needs, so that other
                rows will fail as well; or it was stopped at a limit.
            FormatError: `train_on` asks for answers of a text in which none are known.
        """
        try:
            if isinstance(sample, Preference):
                return self._preference(sample)
            if isinstance(sample, Text):
                return self._text_row(sample)
            if isinstance(sample, Feedback):
                return with_label(self._conversation(judged(sample)), sample.label)
            return self._conversation(sample)
        except RowTemplateError as error:
            return BadRow(sample.origin, error.what, "template-refuses")

    def render_each(self, samples: Iterable[Sample]) -> Iterator[Example | BadRow | DataError]:
        """What `render` makes of each sample, or the error it raises, in order."""
        for sample in samples:
            try:
                yield self.render(sample)
            except DataError as error:
                yield error

    def rest(self) -> None:
        """Rows come no more for a while: give back what was held for them."""

    def prompt(
        self, messages: Items[Message], tools: Tools = (), kwargs: Kwargs | None = None
    ) -> Ids:
        """Ids the model is given before its next answer, the same as in training."""
        chat = self._chat_of(tools, kwargs)
        placed = self._placed(tuple(messages), chat)
        if chat is None:
            draft = conversation_draft(
                placed, {}, self.tokenizer, system_prompt=self.system_prompt, everything=False
            )
            draft = replace(draft, finish=None)
        else:
            draft = chat.text.prompt(placed, tools)
        return sequence_of(pieces(self.tokenizer, draft)).ids

    def explain(self, sample: Sample) -> list[list[Piece]]:
        """Per sequence, before truncation, the pieces of a sample with text, ids, weight and kind.

        Raises:
            RowTemplateError: The row cannot be rendered.
        """
        if isinstance(sample, Text):
            return [pieces(self.tokenizer, self._text_draft(sample))]
        if isinstance(sample, Feedback):
            sample = judged(sample)
        chat = self._chat_of(sample.tools, sample.template_kwargs)
        if isinstance(sample, Preference):
            require_pair(sample, chat)
            drafts = self._pair(self._placed(sample.prompt, chat), sample, chat)
        else:
            drafts = self._drafts(self._weighted(sample.messages, chat), sample.tools, chat)
        return [pieces(self.tokenizer, draft) for draft in drafts]

    def published(self, sample: Sample) -> Published | None:
        """The row as other programs should read it; see `luthier.data.rendering.published`."""
        return published(self, sample)

    def placed(self, messages: Items[Message]) -> Messages:
        """Messages without tools as the template gets them: system text in its place, thoughts begun."""
        return self._placed(tuple(messages), self._chat_of((), None))

    # -- one method for each kind of sample

    def _conversation(self, sample: Conversation) -> Example | BadRow:
        chat = self._chat_of(sample.tools, sample.template_kwargs)
        messages = self._weighted(sample.messages, chat)
        if chat is not None:
            require(chat.facts, messages, sample.tools)
        if reason := empty_answer(messages):
            return BadRow(sample.origin, reason, "empty-answer")
        drafts = self._drafts(messages, sample.tools, chat)
        if lost := self._lost(messages, sample.tools, drafts, chat):
            return BadRow(sample.origin, lost, "content-lost")
        sequences = tuple(self._sequence(draft) for draft in drafts)
        if truncate.longest(sequences) <= self.seq_length or self.truncation != "prompt_start":
            return self._fitted(sequences, sample.origin)
        units = [messages]
        if len(drafts) > 1:  # one text an answer: each is shortened by itself
            indices = list(self._answers(messages))
            units = [only_answer(messages, index) for index in indices]
        made, turns = truncate.cut_each(
            zip(units, sequences, strict=True),
            lambda unit: tuple(map(self._sequence, self._drafts(unit, sample.tools, chat))),
            self.seq_length,
            locate=self.tokenizer.offsets,
            before=lambda unit: last_assistant(unit) or 0,
        )
        return self._fitted(made, sample.origin, sequences, turns)

    def _preference(self, sample: Preference) -> Example | BadRow:
        if reason := pair_problem(sample):
            return BadRow(sample.origin, *reason)
        chat = self._chat_of(sample.tools, sample.template_kwargs)
        require_pair(sample, chat)
        prompt = self._placed(sample.prompt, chat)

        def build(messages: Messages) -> tuple[Sequence, ...]:
            return tuple(self._sequence(draft) for draft in self._pair(messages, sample, chat))

        for messages, draft in zip(
            self._sides(prompt, sample, chat), self._pair(prompt, sample, chat), strict=True
        ):
            if lost := self._lost(messages, sample.tools, [draft], chat):
                return BadRow(sample.origin, lost, "content-lost")
        sequences = build(prompt)
        if truncate.longest(sequences) <= self.seq_length or self.truncation != "prompt_start":
            return told_apart(self._fitted(sequences, sample.origin))
        cut, turns = truncate.cut_prompt(
            prompt, build, self.seq_length, locate=self.tokenizer.offsets, before=len
        )
        return told_apart(self._fitted(cut, sample.origin, sequences, turns))

    def _text_row(self, sample: Text) -> Example | BadRow:
        if not sample.text.strip():
            return BadRow(sample.origin, "the text is empty", "empty-answer")
        sequence = self._sequence(self._text_draft(sample))
        if self.objective == "text" and len(sequence.ids) > self.seq_length:
            self.counts["chunked_rows"] += 1
            return Example(truncate.chunks(sequence, self.seq_length), sample.origin)
        return self._fitted((sequence,), sample.origin)

    def _lost(
        self, messages: Messages, tools: Tools, drafts: Items[Draft], chat: Chat | None
    ) -> str | None:
        """What of a row its rendering lacks, as a sentence; what is left out on purpose is counted."""
        if chat is None:
            return None
        verdict = chat.kept.check(
            messages, tools, self._answers(messages), drafts, everything=self.train_on == "all"
        )
        self.left_out.update(verdict.left_out)
        return verdict.lost

    def _fitted(
        self,
        sequences: tuple[Sequence, ...],
        origin: Origin,
        before: tuple[Sequence, ...] | None = None,
        turns: int = 0,
    ) -> Example | BadRow:
        """The example if its sequences fit or may be cut at their end, else a bad row."""
        before = sequences if before is None else before
        if not all(truncate.targets(sequence) for sequence in before) or not before:
            return BadRow(origin, "no token of the row carries loss", "no-target")
        length = truncate.longest(before)
        if length <= self.seq_length:
            return Example(sequences, origin)
        if self.truncation in ("drop", "refuse"):
            reason = f"{length} tokens, more than seq_length {self.seq_length}"
            return LongRow(origin, reason, "answer-lost", length)
        after = tuple(truncate.cut_end(sequence, self.seq_length) for sequence in sequences)
        kept = tuple(sequence for sequence in after if truncate.targets(sequence))
        if not kept or (len(kept) < len(after) and self.objective != "sft"):
            reason = f"{length} tokens: no answer is left within seq_length {self.seq_length}"
            return LongRow(origin, reason, "answer-lost", length)
        return Example(kept, origin, truncate.cut_of(before, kept, turns))

    # -- drafts

    def _chat_of(self, tools: Tools, kwargs: Kwargs | None) -> Chat | None:
        return None if self._chats is None else self._chats.of(tools, kwargs)

    def _drafts(self, messages: Messages, tools: Tools, chat: Chat | None) -> list[Draft]:
        weights = self._answers(messages)
        everything = self.train_on == "all"
        if chat is not None:
            return chat.text.drafts(messages, tools, weights, everything=everything)
        draft = conversation_draft(
            messages,
            weights,
            self.tokenizer,
            system_prompt=self.system_prompt,
            everything=everything,
        )
        self._note_controls(draft)
        return [draft]

    def _answers(self, messages: Messages) -> dict[int, float]:
        """Index and weight of the answers that need a span of their own: with `train_on: all` also
        those of weight 0, which are left out of what is learned."""
        weights = {
            index: message.weight or 0.0
            for index, message in enumerate(messages)
            if message.role == "assistant"
        }
        everything = self.train_on == "all"
        return {index: weight for index, weight in weights.items() if weight or everything}

    def _sides(
        self, prompt: Messages, sample: Preference, chat: Chat | None
    ) -> tuple[Messages, Messages]:
        """Both conversations of a pair, with the weight of each message."""
        history = tuple(replace(message, weight=0.0) for message in prompt)

        def side(continued: Messages) -> Messages:
            opened, count = with_openings(continued)
            self.counts["thoughts_opened"] += count
            answers = tuple(
                replace(message, weight=1.0 if message.weight is None else message.weight)
                if message.role == "assistant"
                else message
                for message in opened
            )
            return self._with_ids((*history, *answers), chat)

        return side(sample.chosen), side(sample.rejected)

    def _pair(self, prompt: Messages, sample: Preference, chat: Chat | None) -> list[Draft]:
        made = []
        for side in self._sides(prompt, sample, chat):
            drafts = self._drafts(side, sample.tools, chat)
            if len(drafts) != 1:
                raise RowTemplateError(
                    "a continuation of several turns, and the template rewrites earlier turns",
                    why="both sides of a pair must be one text behind the same prompt",
                    fix="give pairs whose chosen and rejected are one message each",
                )
            made += drafts
        return made

    def _text_draft(self, sample: Text) -> Draft:
        if self.system_prompt and own_system(sample):
            self.counts["own_system_prompt"] += 1
        draft = text_draft(
            sample, self.tokenizer, system_prompt=self.system_prompt, train_on=self.train_on
        )
        self._note_controls(draft)
        return draft

    def _note_controls(self, draft: Draft) -> None:
        for start, stop, _ in self.tokenizer.find_controls(draft.text):
            self.controls[draft.text[start:stop].strip()] += 1

    def _sequence(self, draft: Draft) -> Sequence:
        return sequence_of(pieces(self.tokenizer, draft))

    # -- messages

    def _placed(self, messages: Messages, chat: Chat | None) -> Messages:
        """System text where the template wants it, thoughts with their beginning, calls with ids."""
        if self.system_prompt and own_system(messages):
            self.counts["own_system_prompt"] += 1
        if chat is None:
            return messages
        messages = with_system(messages, self.system_prompt)
        if not chat.facts.system and any(message.role == "system" for message in messages):
            if own_system(messages):
                self.counts["merged_system_prompt"] += 1
                self._notice(
                    "the chat template has no system role: system text is put before the user "
                    "message that follows it"
                )
            messages = merged_system(messages)
        messages, count = with_openings(messages)
        self.counts["thoughts_opened"] += count
        return self._with_ids(messages, chat)

    def _with_ids(self, messages: Messages, chat: Chat | None) -> Messages:
        return messages if chat is None else with_call_ids(messages, chat.facts)

    def _weighted(self, messages: Messages, chat: Chat | None) -> Messages:
        """Messages with the loss weight of each resolved."""
        placed = self._placed(messages, chat)
        last = last_assistant(placed)
        made = []
        for index, message in enumerate(placed):
            learned = message.role == "assistant" and (
                self.train_on != "last_assistant" or index == last
            )
            weight = 1.0 if message.weight is None else message.weight
            made.append(replace(message, weight=weight if learned else 0.0))
        return tuple(made)

    def _notice(self, text: str) -> None:
        if text not in self.notices:
            self.notices.append(text)
