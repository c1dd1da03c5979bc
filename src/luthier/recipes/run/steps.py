"""From examples to the micro-batches of each optimiser step."""

from collections.abc import Callable
from collections.abc import Sequence as Many
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from luthier.data.packing.cut import Sizes, cut
from luthier.data.packing.pack import PackedBatch, pack
from luthier.data.packing.steps import StepPlanner
from luthier.data.types import Example, Sequence
from luthier.engine.distribution import Ranks
from luthier.engine.loop import Step
from luthier.errors import OutOfMemoryError
from luthier.events import Warned
from luthier.recipes.run.context import RunContext
from luthier.units import format_count


class MicroBatch(NamedTuple):
    """A packed batch and the step it belongs to (dropout masks depend on the step)."""

    packed: PackedBatch
    step: int
    samples: tuple[int, ...]


def units_of(examples: Many[Example], objective: str) -> NDArray[np.float64]:
    """Units of each example: 1 for a pair, the summed weight of its targets otherwise."""
    if objective == "dpo":
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
        self.max_sequences, self.ranks, self._warn = max_sequences, ranks, warn
        self.units = units_of(examples, objective)
        counts = [len(example.sequences) for example in examples]
        self.first_sequence = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])

    def plan(self, step: int) -> Step[MicroBatch]:
        """This rank's share of all samples as one step, the same whatever the step."""
        everything = range(len(self.examples))
        sizes = Sizes(self.budget, self.share, max_sequences=self.max_sequences)
        mine = everything[self.ranks.rank :: self.ranks.size]
        return self._step(step, everything, cut(self.examples, mine, sizes))

    def _step(self, step: int, samples: Many[int], cuts: Many[Many[int]]) -> Step[MicroBatch]:
        batches = [MicroBatch(self.packed(cut), step, tuple(cut)) for cut in cuts]
        return Step(
            number=step,
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

    def shrink(self, step: int, error: BaseException) -> None:
        """Halve the budget of tokens, down to one sample at a time."""
        plan = self.plan(step)
        when = f"at step {step}" if step else "in an evaluation"
        largest = max((len(batch.packed.ids) for batch in plan.batches), default=0)
        most = max((len(batch.samples) for batch in plan.batches), default=0)
        if not self.ranks.any(most > 1):
            raise OutOfMemoryError(
                f"memory ran out {when} with one sample of {largest} tokens at a time",
                why=f"there is nothing left to cut; the device said: {str(error).splitlines()[0][:200]}",
                fix="--gradient_checkpointing full, a smaller --seq_length, or --load_in_4bit",
            )
        self.budget = max(1, min(self.budget, int(self.ranks.largest(largest))) // 2)
        self._warn(f"memory ran out {when}: from now on at most {self.budget} tokens at once")


class EvalSource(Cutter):
    """All held-out samples of a run as one step, cut like a training step."""

    def __init__(
        self, context: RunContext, examples: Many[Example], *, max_sequences: int | None
    ) -> None:
        settings = context.settings
        assert isinstance(settings.micro_batch_tokens, int)
        super().__init__(
            examples,
            objective=settings.objective,
            budget=settings.micro_batch_tokens,
            share=settings.share_prefixes is True,
            max_sequences=max_sequences,
            ranks=context.ranks,
            warn=lambda text: context.emit(Warned(text=text)),
        )


class StepSource(EvalSource):
    """Plans this rank's share of every training step.

    Args:
        examples: All samples; the planner's indices point into them.
        planner: Order of samples and cut of steps.
        max_sequences: 1 for models that run one sequence at a time.
    """

    def __init__(
        self,
        context: RunContext,
        examples: Many[Example],
        planner: StepPlanner,
        *,
        max_sequences: int | None,
    ) -> None:
        super().__init__(context, examples, max_sequences=max_sequences)
        self.planner = planner

    def plan(self, step: int) -> Step[MicroBatch]:
        """This rank's micro-batches of a step; the units are those of the whole step."""
        samples = self.planner.samples(step)
        cuts = self.planner.micro_batches(
            step, budget=self.budget, rank=self.ranks.rank, ranks=self.ranks.size
        )
        return self._step(step, samples, cuts)


def describe_rows(examples: Many[Example], samples: Many[int], most: int = 8) -> str:
    """`a.jsonl line 3, line 9, ...`: where the samples of a step came from."""
    named = [str(examples[sample].origin) for sample in samples[:most]]
    more = f" and {format_count(len(samples) - most)} more" if len(samples) > most else ""
    return ", ".join(named) + more
