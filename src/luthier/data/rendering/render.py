"""Rows to token ids with the loss weight of every token: what training, preview and chat share.

A weight belongs to a token *as a target*.  `Renderer.explain` shows the same pieces that training
gets, with their text.
"""

from collections import Counter
from collections.abc import Mapping
from collections.abc import Sequence as Items
from dataclasses import dataclass, replace
from typing import Any, Literal

from luthier.data.rendering import truncate
from luthier.data.rendering.answers import empty_answer, pair_problem
from luthier.data.rendering.chat_text import ChatText
from luthier.data.rendering.drafts import Draft, Piece, pieces, sequence_of
from luthier.data.rendering.plain_text import conversation_draft, own_system, text_draft
from luthier.data.rendering.probe import TemplateFacts, probe
from luthier.data.rendering.template import ChatTemplate, RowTemplateError
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
    Cut,
    Example,
    Feedback,
    Ids,
    Message,
    Origin,
    Preference,
    Sample,
    Sequence,
    Text,
)
from luthier.errors import TemplateError

TrainOn = Literal["assistant", "last_assistant", "all"]
Truncation = Literal["prompt_start", "answer_end", "drop", "refuse"]
Tools = Items[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class LongRow(BadRow):
    """A row that `truncation` does not allow to be cut, or that cannot be cut to the limit."""

    tokens: int = 0


class Renderer:
    """Turns samples into examples.

    Args:
        template: None is `apply_chat_template: false`.
        train_on: None is the default: assistant turns of conversations, all of `text` rows.
        seq_length: Most tokens of one sequence, at least 2.

    Attributes:
        notices: What to tell the user once, in the order it came up.
        counts: `own_system_prompt`, `merged_system_prompt`, `control_tokens_in_text` and the like.
        stop_ids: Ids that end an answer: those of the tokenizer and the template's terminator.

    Raises:
        TemplateError: The template leaves out user or assistant text altogether.
    """

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
        self.facts: TemplateFacts | None = None
        self._chat: ChatText | None = None
        self.stop_ids = tokenizer.stop_ids
        if template is not None:
            self.facts = probe(template, tokenizer)
            self._chat = ChatText(template, tokenizer, self.facts)
            self._announce(self.facts)

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
                reason = "unpaired feedback (`label`) is read, and not trained yet"
                return BadRow(sample.origin, reason, "feedback-not-trained")
            return self._conversation(sample)
        except RowTemplateError as error:
            return BadRow(sample.origin, error.what, "template-refuses")

    def prompt(self, messages: Items[Message], tools: Tools = ()) -> Ids:
        """Ids the model is given before its next answer, the same as in training."""
        if self._chat is None:
            prepared = self._placed(tuple(messages))
            draft = conversation_draft(
                prepared, {}, self.tokenizer, system_prompt=self.system_prompt, everything=False
            )
            draft = replace(draft, finish=None)
        else:
            draft = self._chat.prompt(self._placed(tuple(messages)), tools)
        return sequence_of(pieces(self.tokenizer, draft)).ids

    def explain(self, sample: Sample) -> list[list[Piece]]:
        """Per sequence, before truncation, the pieces of a sample with text, ids, weight and kind.

        Raises:
            RowTemplateError: The row cannot be rendered.
        """
        if isinstance(sample, Preference):
            self._require_pair(sample)
            drafts = self._pair(self._placed(sample.prompt), sample)
        elif isinstance(sample, Text):
            drafts = [self._text_draft(sample)]
        else:
            conversation = sample.conversation if isinstance(sample, Feedback) else sample
            drafts = self._drafts(self._weighted(conversation.messages), conversation.tools)
        return [pieces(self.tokenizer, draft) for draft in drafts]

    # -- one method for each kind of sample

    def _conversation(self, sample: Conversation) -> Example | BadRow:
        messages = self._weighted(sample.messages)
        self._require(messages, sample.tools)
        if reason := empty_answer(messages):
            return BadRow(sample.origin, reason, "empty-answer")
        drafts = self._drafts(messages, sample.tools)
        sequences = tuple(self._sequence(draft) for draft in drafts)
        if truncate.longest(sequences) <= self.seq_length or self.truncation != "prompt_start":
            return self._fitted(sequences, sample.origin)
        units = [messages]
        if len(drafts) > 1:  # one text an answer: each is shortened by itself
            indices = list(self._answers(messages))
            units = [_only(messages, index) for index in indices]
        made: list[Sequence] = []
        turns = 0
        for unit, sequence in zip(units, sequences, strict=True):
            if len(sequence.ids) > self.seq_length:
                cut, taken = truncate.cut_prompt(
                    unit,
                    lambda messages: tuple(
                        map(self._sequence, self._drafts(messages, sample.tools))
                    ),
                    self.seq_length,
                    locate=self.tokenizer.offsets,
                    before=lambda messages: last_assistant(messages) or 0,
                )
                made, turns = [*made, *cut], turns + taken
            else:
                made.append(sequence)
        return self._fitted(tuple(made), sample.origin, sequences, turns)

    def _preference(self, sample: Preference) -> Example | BadRow:
        if reason := pair_problem(sample):
            return BadRow(sample.origin, *reason)
        self._require_pair(sample)
        prompt = self._placed(sample.prompt)

        def build(messages: Messages) -> tuple[Sequence, ...]:
            return tuple(self._sequence(draft) for draft in self._pair(messages, sample))

        sequences = build(prompt)
        if truncate.longest(sequences) <= self.seq_length or self.truncation != "prompt_start":
            return self._fitted(sequences, sample.origin)
        cut, turns = truncate.cut_prompt(
            prompt, build, self.seq_length, locate=self.tokenizer.offsets, before=len
        )
        return self._fitted(cut, sample.origin, sequences, turns)

    def _text_row(self, sample: Text) -> Example | BadRow:
        if not sample.text.strip():
            return BadRow(sample.origin, "the text is empty", "empty-answer")
        sequence = self._sequence(self._text_draft(sample))
        if self.objective == "text" and len(sequence.ids) > self.seq_length:
            self.counts["chunked_rows"] += 1
            return Example(truncate.chunks(sequence, self.seq_length), sample.origin)
        return self._fitted((sequence,), sample.origin)

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

    def _drafts(self, messages: Messages, tools: Tools) -> list[Draft]:
        weights = self._answers(messages)
        everything = self.train_on == "all"
        if self._chat is not None:
            return self._chat.drafts(messages, tools, weights, everything=everything)
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

    def _pair(self, prompt: Messages, sample: Preference) -> list[Draft]:
        made = []
        for side in (sample.chosen, sample.rejected):
            answers = tuple(
                replace(message, weight=1.0 if message.weight is None else message.weight)
                if message.role == "assistant"
                else message
                for message in side
            )
            history = tuple(replace(message, weight=0.0) for message in prompt)
            drafts = self._drafts(self._with_ids((*history, *answers)), sample.tools)
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

    def _placed(self, messages: Messages) -> Messages:
        """System text where the template wants it, tool calls with ids."""
        if self.system_prompt and own_system(messages):
            self.counts["own_system_prompt"] += 1
        if self._chat is None:
            return messages
        messages = with_system(messages, self.system_prompt)
        if not self._chat.facts.system and own_system(messages):
            self.counts["merged_system_prompt"] += 1
            self._notice(
                "the chat template has no system role: system text is put before the first user message"
            )
            messages = merged_system(messages)
        return self._with_ids(messages)

    def _with_ids(self, messages: Messages) -> Messages:
        return messages if self._chat is None else with_call_ids(messages, self._chat.facts)

    def _weighted(self, messages: Messages) -> Messages:
        """Messages with the loss weight of each resolved."""
        placed = self._placed(messages)
        last = last_assistant(placed)
        made = []
        for index, message in enumerate(placed):
            learned = message.role == "assistant" and (
                self.train_on != "last_assistant" or index == last
            )
            weight = 1.0 if message.weight is None else message.weight
            made.append(replace(message, weight=weight if learned else 0.0))
        return tuple(made)

    def _require_pair(self, sample: Preference) -> None:
        for side in (sample.chosen, sample.rejected):
            self._require((*sample.prompt, *side), sample.tools)

    def _require(self, messages: Messages, tools: Tools) -> None:
        """Refuse what the template would leave out in silence."""
        if self._chat is None:
            return
        facts = self._chat.facts
        missing = {
            "the tools offered": bool(tools) and not facts.tools,
            "tool calls": any(message.tool_calls for message in messages) and not facts.calls,
            "results of tools": any(message.role == "tool" for message in messages)
            and not facts.results,
        }
        if found := [name for name, lost in missing.items() if lost]:
            raise TemplateError(
                f"the chat template has no place for {', '.join(found)}, which the rows have",
                why="they would be left out in silence, and the answers would make no sense",
                fix="chat_template: FILE.jinja with one that writes them, or rows without tools",
            )
        if not facts.reasoning and any(message.reasoning for message in messages):
            self.counts["reasoning_left_out"] += 1
            self._notice("the chat template does not write `reasoning_content`: it is left out")

    def _announce(self, facts: TemplateFacts) -> None:
        if facts.terminator is not None:
            number = self.tokenizer.special_tokens[facts.terminator]
            self.stop_ids = self.stop_ids | {number}
        elif self.tokenizer.eos_id is not None:
            self._notice(
                f"the chat template ends answers with no control token: {self.tokenizer.eos} is added"
            )
        else:
            self._notice("neither template nor tokenizer has a token that ends an answer")
        if facts.header:
            self._notice(
                f"the chat template has no generation prompt: {facts.header!r} is put before answers"
            )

    def _notice(self, text: str) -> None:
        if text not in self.notices:
            self.notices.append(text)


def _only(messages: Messages, index: int) -> Messages:
    """The conversation up to one answer, of which only that answer is learned."""
    kept = messages[: index + 1]
    return tuple(
        message if at == index else replace(message, weight=0.0) for at, message in enumerate(kept)
    )


__all__ = ["Cut", "LongRow", "Piece", "Renderer", "TrainOn", "Truncation"]
