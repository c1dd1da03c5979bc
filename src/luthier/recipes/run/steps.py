"""From examples to the micro-batches of each optimiser step."""

from collections.abc import Callable
from collections.abc import Sequence as Many
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from luthier.data.packing.cut import Sizes, cut
from luthier.data.packing.pack import PackedBatch, pack
from luthier.data.packing.steps import StepPlanner
from luthier.data.types import Example, Sequence
from luthier.engine.distribution import Ranks
from luthier.engine.loop import StepShare
from luthier.errors import OutOfMemoryError
from luthier.events import Warned
from luthier.recipes.run.context import RunContext
from luthier.units import format_count


class StepFacts(NamedTuple):
    """What KTO knows of the whole step before its first micro-batch."""

    kl: float = 0.0  # divergence from the reference, nats, >= 0
    wanted_share: float = 0.5  # of its rows, 0 to 1


class MicroBatch(NamedTuple):
    """A packed batch and the step it belongs to (dropout masks depend on the step)."""

    packed: PackedBatch
    step: int
    samples: tuple[int, ...]
    facts: StepFacts = StepFacts()


def units_of(examples: Many[Example], objective: str) -> NDArray[np.float64]:
    """Units of each example: 1 for a pair or a labelled answer, else its targets' summed weight."""
    if objective in ("dpo", "kto"):
        return np.ones(len(examples))
    return np.array(
        [sum(float(s.weights.sum(dtype=np.float64)) for s in e.sequences) for e in examples]
    )


class Cutter:
    """Packs samples into micro-batches under a budget of tokens, which shrinks when memory runs out.

    Args:
        examples: All samples.
        objective: Decides the units of a sample.
        budget: Most tokens at once.
        share: Whether what several sequences begin with is computed once.
        max_sequences: 1 for models that run one sequence at a time.
        warn: Told when the budget shrinks.
    """

    def __init__(
        self,
        examples: Many[Example],
        *,
        objective: str,
        budget: int,
        share: bool,
        max_sequences: int | None,
        ranks: Ranks,
        warn: Callable[[str], None],
    ) -> None:
        self.examples, self.budget, self.share = examples, budget, share
        self.max_sequences, self.ranks, self.warn = max_sequences, ranks, warn
        self.units = units_of(examples, objective)
        counts = [len(example.sequences) for example in examples]
        self.first_sequence = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])

    def some(self, number: int, mine: Many[int], units: float) -> StepShare[MicroBatch]:
        """This rank's samples of a step whose units, over all ranks, are known."""
        sizes = Sizes(self.budget, self.share, max_sequences=self.max_sequences)
        return self.step(number, mine, cut(self.examples, mine, sizes))._replace(units=units)

    def step(self, number: int, samples: Many[int], cuts: Many[Many[int]]) -> StepShare[MicroBatch]:
        """Some of `samples`, cut so, as this rank's share of a step whose units are those of all."""
        batches = [MicroBatch(self.packed(cut), number, tuple(cut)) for cut in cuts]
        return StepShare(
            number=number,
            units=float(self.units[list(samples)].sum()),
            batches=batches,
            tokens=sum(len(batch.packed.ids) for batch in batches),
            rows=describe_rows(self.examples, samples),
        )

    def packed(self, samples: Many[int]) -> PackedBatch:
        """Some samples as one prefix tree; every sequence of the data has a number of its own."""
        sequences: list[Sequence] = []
        numbers: list[int] = []
        for sample in samples:
            sequences += self.examples[sample].sequences
            numbers += range(self.first_sequence[sample], self.first_sequence[sample + 1])
        return pack(sequences, share=self.share, sample_ids=numbers)

    def shrink(self, step: StepShare[MicroBatch], error: BaseException) -> None:
        """Halve the budget of tokens, down to one sample at a time.

        Args:
            step: For which memory ran out.

        Raises:
            OutOfMemoryError: It is one sample at a time already.
        """
        when = f"at step {step.number}" if step.number else "in an evaluation"
        largest = max((len(batch.packed.ids) for batch in step.batches), default=0)
        most = max((len(batch.samples) for batch in step.batches), default=0)
        if not self.ranks.any(most > 1):
            raise OutOfMemoryError(
                f"memory ran out {when} with one sample of {largest} tokens at a time",
                why=f"there is nothing left to cut; the device said: {str(error).splitlines()[0][:200]}",
                fix="--gradient_checkpointing full, a smaller --seq_length, or --load_in_4bit",
            )
        self.budget = max(1, min(self.budget, int(self.ranks.largest(largest))) // 2)
        self.warn(f"memory ran out {when}: from now on at most {self.budget} tokens at once")


def make_cutter(
    context: RunContext, examples: Many[Example], *, max_sequences: int | None
) -> Cutter:
    """How a run cuts its samples, as it was decided."""
    return Cutter(
        examples,
        objective=context.settings.objective,
        budget=context.decided.micro_batch_tokens,
        share=context.decided.share,
        max_sequences=max_sequences,
        ranks=context.ranks,
        warn=lambda text: context.emit(Warned(text=text)),
    )


@dataclass(frozen=True, slots=True)
class EvalSource:
    """All samples as one step, the same whatever the step; each rank has its share."""

    cutter: Cutter

    def plan(self, step: int) -> StepShare[MicroBatch]:
        """This rank's share of all samples."""
        cutter = self.cutter
        everything = range(len(cutter.examples))
        sizes = Sizes(cutter.budget, cutter.share, max_sequences=cutter.max_sequences)
        mine = everything[cutter.ranks.rank :: cutter.ranks.size]
        return cutter.step(step, everything, cut(cutter.examples, mine, sizes))

    def shrink(self, step: int, error: BaseException) -> None:
        """Cut finer from now on."""
        self.cutter.shrink(self.plan(step), error)


@dataclass(frozen=True, slots=True)
class StepSource:
    """This rank's share of every training step.

    Args:
        planner: Order of samples and cut of steps; its indices are those of the cutter's samples.
    """

    cutter: Cutter
    planner: StepPlanner

    def plan(self, step: int) -> StepShare[MicroBatch]:
        """This rank's micro-batches of a step; the units are those of the whole step."""
        cutter = self.cutter
        cuts = self.planner.micro_batches(
            step, budget=cutter.budget, rank=cutter.ranks.rank, ranks=cutter.ranks.size
        )
        return cutter.step(step, self.planner.samples(step), cuts)

    def shrink(self, step: int, error: BaseException) -> None:
        """Cut finer from now on."""
        self.cutter.shrink(self.plan(step), error)


def describe_rows(examples: Many[Example], samples: Many[int], most: int = 8) -> str:
    """`a.jsonl line 3, line 9, ...`: where the samples of a step came from."""
    named = [str(examples[sample].origin) for sample in samples[:most]]
    more = f" and {format_count(len(samples) - most)} more" if len(samples) > most else ""
    return ", ".join(named) + more
