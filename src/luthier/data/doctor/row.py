"""One row as the rules see it: as it was read, as a sample, as token ids, and its texts."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from luthier.data.doctor.keys import exact_key
from luthier.data.rendering.content import strings
from luthier.data.types import (
    BadRow,
    Conversation,
    Example,
    Feedback,
    Message,
    Origin,
    Preference,
    Sample,
    Text,
)


class RowSizes(NamedTuple):
    """Tokens of a row without any cut.

    `answer` are those that carry loss, `system` those of system texts alone, `prompt` the rest with
    the marks of the template; of a pair, the longer side.  `lengths` is each sequence.
    """

    system: int
    prompt: int
    answer: int
    lengths: tuple[int, ...]

    @property
    def longest(self) -> int:
        """Tokens of the longest sequence."""
        return max(self.lengths, default=0)


@dataclass
class CheckedRow:
    """One row and what became of it.

    Attributes:
        index: From 0, over all files.
        fields: As read; empty where the row is no object.
        format: Name of its format; None where it has none or two.
        sample: None where the row cannot be read.
        problem: Why it cannot be used, by reading or by rendering; None where it can.
        example: Its sequences without any cut; None without a tokenizer or where it has a problem.
        unused: Columns that nothing is made of.
    """

    index: int
    origin: Origin
    fields: Mapping[str, Any]
    format: str | None = None
    sample: Sample | None = None
    problem: BadRow | None = None
    example: Example | None = None
    sizes: RowSizes | None = None
    cut: bool = False
    unused: Sequence[str] = ()

    @cached_property
    def messages(self) -> tuple[Message, ...]:
        """All turns in order: of a pair the prompt, chosen and rejected; none for a text."""
        sample = self.sample
        if isinstance(sample, Feedback):
            sample = sample.conversation
        if isinstance(sample, Conversation):
            return sample.messages
        if isinstance(sample, Preference):
            return (*sample.prompt, *sample.chosen, *sample.rejected)
        return ()

    @cached_property
    def chat(self) -> tuple[Message, ...]:
        """The turns of a conversation; of a pair the prompt and the chosen answer."""
        if isinstance(self.sample, Preference):
            return (*self.sample.prompt, *self.sample.chosen)
        return self.messages

    @cached_property
    def answers(self) -> list[str]:
        """Texts of the assistant's turns that are learned; of a pair, the chosen ones."""
        if isinstance(self.sample, Preference):
            messages: Sequence[Message] = self.sample.chosen
        else:
            messages = self.messages
        return [m.content for m in messages if m.role == "assistant" and m.weight != 0]

    @cached_property
    def text(self) -> str:
        """Every text of the row, one behind the other; of a row that cannot be read, every string
        in it."""
        if self.sample is None:
            return "\n".join(strings(self.fields))
        if isinstance(self.sample, Text):
            return self.sample.text
        return "\n".join(self._contents())

    def _contents(self) -> Iterator[str]:
        for message in self.messages:
            yield message.content
            if message.reasoning:
                yield message.reasoning

    @cached_property
    def key(self) -> int:
        """64 bits of what makes a row the same in training; only for rows with a sample."""
        assert self.sample is not None
        return exact_key(self.sample)

    @cached_property
    def plain_ascii(self) -> bool:
        """Whether all text is ASCII, so that rules about other characters need not look."""
        return self.text.isascii()


def excerpt(text: str, start: int, stop: int, *, around: int = 12) -> str:
    """A stretch of text with a little around it, on one line."""
    before, after = max(0, start - around), min(len(text), stop + around)
    shown = text[before : min(after, before + 80)]
    return ("…" if before else "") + " ".join(shown.split()) + ("…" if after < len(text) else "")
