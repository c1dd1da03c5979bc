"""What advice is made from: plain numbers about rows, model and machine."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

USABLE, LEANEST = 0.9, 0.97
"""Shares of a device's memory that are planned with."""

Kind = Literal["conversations", "pairs", "texts", "feedback"]
Method = Literal["full", "lora", "qlora"]


@dataclass(frozen=True, slots=True)
class Rows:
    """The data.

    Args:
        kind: What most rows are.
        count: Rows that can be learned from.
        tokens: Of all sequences, rendered.
        learned_tokens: Those that carry loss.
        lengths: Percentiles 0 to 100 of the length of a sequence in tokens, 101 numbers; of a
            pair, of the longer side.
        answer_tokens: Median of the learned tokens of a row.
        turns: Median of the assistant's turns of a row.
        tool_share: Share of rows that offer or call tools, 0 to 1.
        code_share: Share of rows with code in them, 0 to 1.
        scripts: Share of the letters by script, `latin` 0.97 and so on.
        tokens_per_letter: Tokens for a letter outside the Latin script; 0 where there are none.
        chosen_longer: Share of pairs whose chosen side is the longer one, 0 to 1.
    """

    kind: Kind
    count: int
    tokens: int
    learned_tokens: int
    lengths: tuple[int, ...]
    answer_tokens: int = 0
    turns: int = 1
    tool_share: float = 0.0
    code_share: float = 0.0
    scripts: Mapping[str, float] = field(default_factory=dict)
    tokens_per_letter: float = 0.0
    chosen_longer: float = 0.5

    @property
    def longest(self) -> int:
        """Tokens of the longest sequence."""
        return self.lengths[100]

    def share_over(self, limit: int) -> float:
        """Share of the rows longer than `limit` tokens, 0 to 1, to about one percent."""
        if self.longest <= limit:
            return 0.0
        below = np.searchsorted(np.asarray(self.lengths), limit, side="right")
        return max(0.01, float(101 - below) / 101) if below < 101 else 0.0

    def tokens_lost(self, limit: int) -> float:
        """Share of the tokens that a cut at `limit` would take, 0 to 1, from the percentiles."""
        lengths = np.asarray(self.lengths, float)
        return float(np.maximum(lengths - limit, 0).sum() / max(1.0, lengths.sum()))


@dataclass(frozen=True, slots=True)
class Model:
    """The model.

    Args:
        parameters: All of them.
        hidden: Width.
        context: Positions it was built for; None where its config does not say.
        family: Its `model_type`.
        adapter_per_rank: Adapter parameters for each unit of rank, on every linear layer.
        experts: Whether its feed-forward layers are experts, which adapters do not reach.
        tuned: Whether it starts from an adapter, such as that of an SFT run.
        chat: Whether it has been taught to answer, as far as its name and template say.
    """

    name: str
    parameters: int
    hidden: int
    context: int | None
    family: str = ""
    adapter_per_rank: int = 0
    experts: bool = False
    tuned: bool = False
    chat: bool = True


@dataclass(frozen=True, slots=True)
class Machine:
    """The machine and what each method needs of it.

    Args:
        memory_bytes: Of one device; of the host where there is no GPU.
        needs: Peak bytes of training one sequence of at most 1024 tokens, by method.
        room: Tokens of the longest sequence that a method has memory for, where that is less than
            the longest row.
    """

    name: str
    kind: Literal["cpu", "cuda"]
    memory_bytes: int
    needs: Mapping[Method, int]
    room: Mapping[Method, int] = field(default_factory=dict)
    devices: int = 1

    def fits(self, method: Method) -> bool:
        """Whether a method's peak is within 90 % of the memory; 97 % for the leanest method."""
        return self.needs[method] <= (LEANEST if method == "qlora" else USABLE) * self.memory_bytes

    @property
    def usable(self) -> int:
        """Bytes that are planned with."""
        return int(USABLE * self.memory_bytes)


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything the rules may look at; `goal` is what the user said, in words."""

    rows: Rows
    model: Model
    machine: Machine
    goal: str = ""
    dataset: tuple[str, ...] = ()
