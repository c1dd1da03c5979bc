"""The plain types between the stages of the data path.  No torch here.

file -> Row -> Conversation | Preference | Text | Feedback -> Example -> PackedBatch
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Role = Literal["system", "user", "assistant", "tool"]
Ids = NDArray[np.int32]
Weights = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a row came from: file as given, line (1-based; the array index + 1 for a JSON array)."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file} line {self.line}"


@dataclass(frozen=True, slots=True)
class Row:
    """One parsed JSON object or CSV record."""

    fields: Mapping[str, Any]
    origin: Origin


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call the assistant makes; `arguments` is always an object, never JSON inside a string."""

    name: str
    arguments: Mapping[str, object]
    id: str | None = None


@dataclass(frozen=True, slots=True)
class Message:
    """One turn.  `weight` scales its loss, 0 to 1; None means the rule of `train_on`."""

    role: Role
    content: str
    weight: float | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    name: str | None = None
    reasoning: str | None = None  # `reasoning_content` of thinking models


@dataclass(frozen=True, slots=True)
class Conversation:
    """Messages in order and the tools offered (JSON schemas), one row of SFT data.

    `template_kwargs` are arguments of the chat template for this row, over those of the run.
    """

    messages: tuple[Message, ...]
    origin: Origin
    tools: tuple[Mapping[str, Any], ...] = ()
    template_kwargs: Mapping[str, object] | None = None


@dataclass(frozen=True, slots=True)
class Preference:
    """One prompt and two continuations, the first preferred; each continuation is one or more
    messages that begin with the assistant's."""

    prompt: tuple[Message, ...]
    chosen: tuple[Message, ...]
    rejected: tuple[Message, ...]
    origin: Origin
    tools: tuple[Mapping[str, Any], ...] = ()
    template_kwargs: Mapping[str, object] | None = None


@dataclass(frozen=True, slots=True)
class Text:
    """A row trained as it stands.  `form` is recognised, never guessed from one row alone."""

    text: str
    origin: Origin
    form: Literal["plain", "llama2", "guanaco"] = "plain"


@dataclass(frozen=True, slots=True)
class Feedback:
    """Unpaired feedback: a conversation and whether its last answer is wanted."""

    conversation: Conversation
    label: bool
    origin: Origin


Sample = Conversation | Preference | Text | Feedback


def num_chars(sample: Sample) -> int:
    """Characters of the texts of a sample."""
    if isinstance(sample, Text):
        return len(sample.text)
    if isinstance(sample, Feedback):
        return num_chars(sample.conversation)
    if isinstance(sample, Conversation):
        messages = sample.messages
    else:
        messages = (*sample.prompt, *sample.chosen, *sample.rejected)
    return sum(len(message.content) + len(message.reasoning or "") for message in messages)


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that cannot be used: where, one sentence that says why, and the code of the doctor's
    rule for it (empty where no rule is about it alone)."""

    origin: Origin
    reason: str
    kind: str = ""


@dataclass(frozen=True, slots=True)
class LongRow(BadRow):
    """A row that `truncation` does not allow to be cut, or that cannot be cut to the limit."""

    tokens: int = 0


@dataclass(frozen=True, slots=True)
class Sequence:
    """Token ids and the loss weight of each token *as a target*: 0 is not learned.

    `weights[0]` is always 0: nothing predicts the first token.
    """

    ids: Ids
    weights: Weights


@dataclass(frozen=True, slots=True)
class Cut:
    """What truncation took from one row, in tokens and in whole turns."""

    prompt_tokens: int = 0
    answer_tokens: int = 0
    turns: int = 0


@dataclass(frozen=True, slots=True)
class Example:
    """The sequences of one row: one or more for SFT, chosen and rejected for DPO, in this order, one
    for an answer with a label.

    All sequences of an example stay in one optimiser step; a *sample* is an example.
    """

    sequences: tuple[Sequence, ...]
    origin: Origin
    cut: Cut | None = None
    wanted: bool | None = None  # the label of unpaired feedback
