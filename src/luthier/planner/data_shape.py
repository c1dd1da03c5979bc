"""What of the data decides memory and time: lengths, supervised tokens, and the largest step."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from luthier.config.settings import Settings
from luthier.data.packing.cut import tree_tokens
from luthier.data.packing.pack import pack
from luthier.data.packing.steps import StepPlanner
from luthier.data.packing.trie import common_prefix
from luthier.data.types import Example
from luthier.planner.activations import Work

ASSUMED_ROWS = 1000
MOST_CANDIDATES = 16
MOST_STEPS = 300
"""Steps whose cut is looked at for the largest; what later epochs draw differs little."""


class StepShape(NamedTuple):
    """How samples become micro-batches.

    Args:
        samples_per_step: Over all devices.
        micro_batch_tokens: Budget of one micro-batch on one device.
        share: Whether sequences share prefixes.
        max_sequences: 1 for models that cannot be packed.
        devices: Devices that share a step.
    """

    samples_per_step: int
    micro_batch_tokens: int
    share: bool = True
    max_sequences: int | None = None
    devices: int = 1


@dataclass(frozen=True)
class DataShape:
    """Lengths of the samples that are learned from.

    Args:
        lengths: Tokens of each sample, its sequences added up (a shared prompt once), int64.
        targets: Supervised tokens of each sample, int64.
        longest: Tokens of the longest sequence.
        largest_sample: Tokens of the largest sample, held-out ones included, nothing shared.
        assumption: What was assumed where there are no rows; empty for real ones.
        held_out: Samples that are evaluated on.
        examples: The samples themselves, where they are at hand: then the largest step is cut as
            training cuts it.
    """

    lengths: NDArray[np.int64]
    targets: NDArray[np.int64]
    longest: int
    largest_sample: int
    assumption: str = ""
    held_out: int = 0
    examples: Sequence[Example] | None = field(default=None, repr=False, compare=False)

    @property
    def samples(self) -> int:
        """Samples of one epoch."""
        return len(self.lengths)

    @property
    def longest_sample(self) -> int:
        """Tokens of the largest sample, nothing shared."""
        return self.largest_sample

    def cut_to(self, seq_length: int) -> "DataShape":
        """The same rows with sequences of at most `seq_length` tokens, estimated from lengths."""
        factor = seq_length / self.longest
        if factor >= 1:
            return self
        most = max(1, round(self.largest_sample * factor))
        lengths = np.minimum(self.lengths, most)
        return replace(
            self,
            lengths=lengths,
            targets=np.minimum(self.targets, lengths),
            longest=seq_length,
            largest_sample=most,
            examples=None,
        )

    @property
    def tokens(self) -> int:
        """Tokens of one epoch, nothing shared between samples."""
        return int(self.lengths.sum())

    @property
    def targets_share(self) -> float:
        """Supervised tokens per token, at most 1."""
        return min(1.0, float(self.targets.sum()) / max(1, self.tokens))

    @classmethod
    def of(cls, examples: Sequence[Example], held_out: Sequence[Example] = ()) -> Self:
        """Of rendered samples that are learned from, and of those held out.

        The sequences of a sample share what they begin with.
        """
        everything = [*examples, *held_out]
        return cls(
            np.array([_length(example) for example in examples], dtype=np.int64),
            np.array([_targets(example) for example in examples], dtype=np.int64),
            max(len(s.ids) for example in everything for s in example.sequences),
            max(sum(len(s.ids) for s in example.sequences) for example in everything),
            held_out=len(held_out),
            examples=examples,
        )

    @classmethod
    def guessed(
        cls,
        totals: NDArray[np.float64],
        longest: NDArray[np.float64],
        learned: NDArray[np.float64],
    ) -> Self:
        """Of lengths that were estimated from the text: per sample, all of its sequences."""
        lengths = np.maximum(2, np.rint(totals)).astype(np.int64)
        targets = np.clip(np.rint(learned).astype(np.int64), 1, lengths)
        most = int(np.rint(longest.max()))
        return cls(lengths, targets, max(2, most), int(lengths.max()))

    @classmethod
    def assumed(cls, settings: Settings, *, context: int | None = None) -> Self:
        """Where there are no rows: the worst that the settings allow.

        Args:
            context: The model's own limit of positions.
        """
        length = min(settings.seq_length, context or settings.seq_length)
        pair = settings.objective == "dpo"
        tokens = length * 3 // 2 if pair else length
        what = (
            f"pairs of two sequences of {length} tokens, the first half shared"
            if pair
            else f"rows of {length} tokens"
        )
        return cls(
            np.full(ASSUMED_ROWS, tokens, dtype=np.int64),
            np.full(ASSUMED_ROWS, length, dtype=np.int64),
            length,
            2 * length if pair else length,
            f"no data given: {ASSUMED_ROWS:,} {what} (seq_length), every one with loss",
        )

    def largest(self, cut: StepShape) -> "Cuts":
        """The largest micro-batch of all steps, and what sharing between samples saves."""
        if self.examples is not None:
            return _cut_largest(self.examples, cut)
        step = max(1, cut.samples_per_step // cut.devices)
        among = np.sort(self.lengths)[::-1][:step]
        budget = max(cut.micro_batch_tokens, int(among[0]))
        total = int(among.sum())
        tokens = int(among[0]) if cut.max_sequences == 1 else min(total, budget)
        targets = max(1, round(tokens * self.targets_share))
        work = Work(tokens, targets, self.longest, tokens, -(-total // tokens))
        return Cuts((work,), 1.0)


class Cuts(NamedTuple):
    """What cutting the steps of an epoch showed.

    Args:
        largest: Micro-batches of which none has both more tokens and more targets than another:
            one of them has the peak.
        shared: Tokens computed per token of the samples; 1 where they share nothing.
        samples: Of the micro-batches of the step that each of `largest` is in, that one first;
            empty without examples.
    """

    largest: tuple[Work, ...]
    shared: float
    samples: tuple[tuple[tuple[int, ...], ...], ...] = ()


def _length(example: Example) -> int:
    total = sum(len(sequence.ids) for sequence in example.sequences)
    if len(example.sequences) == 2:
        first, second = example.sequences
        return total - common_prefix(first.ids, second.ids)
    return total if len(example.sequences) == 1 else len(pack(example.sequences).ids)


def _targets(example: Example) -> int:
    return sum(int(np.count_nonzero(sequence.weights[1:])) for sequence in example.sequences)


class _Piece(NamedTuple):
    """A micro-batch: its size, and the step it is in."""

    tokens: int
    targets: int
    samples: tuple[int, ...]
    step: tuple[tuple[int, ...], ...]


def _cut_largest(examples: Sequence[Example], cut: StepShape) -> Cuts:
    planner = StepPlanner(
        examples,
        seed=0,
        samples_per_step=cut.samples_per_step,
        micro_batch_tokens=cut.micro_batch_tokens,
        share=cut.share,
        max_sequences=cut.max_sequences,
    )
    found: list[_Piece] = []
    plain = 0
    for step in range(1, min(planner.steps_per_epoch, MOST_STEPS) + 1):
        pieces = tuple(map(tuple, planner.micro_batches(step, ranks=cut.devices)))
        for piece in pieces:
            among = [examples[index] for index in piece]
            plain += sum(_length(example) for example in among)
            tokens = tree_tokens(among, share=cut.share)
            found.append(_Piece(tokens, sum(map(_targets, among)), piece, pieces))
    most = max(len(piece.step) for piece in found)
    front = _front(found)
    works = tuple(
        _work([examples[index] for index in piece.samples], cut.share)._replace(micro_batches=most)
        for piece in front
    )
    steps = tuple(
        (piece.samples, *(other for other in piece.step if other != piece.samples))
        for piece in front
    )
    return Cuts(works, sum(piece.tokens for piece in found) / max(1, plain), steps)


def _front(pieces: list[_Piece]) -> list[_Piece]:
    """Those that no other has both more tokens and more targets than, most tokens first."""
    front: list[_Piece] = []
    for piece in sorted(pieces, key=lambda piece: (-piece.tokens, -piece.targets)):
        if not front or piece.targets > front[-1].targets:
            front.append(piece)
    return front[:MOST_CANDIDATES]


def _work(examples: Sequence[Example], share: bool) -> Work:
    batch = pack([s for example in examples for s in example.sequences], share=share)
    longest = int(batch.positions.max()) + 1
    return Work(
        len(batch.ids),
        len(batch.target_row),
        longest,
        int(batch.cu_k[-1]),
        nodes=len(batch.nodes),
    )
