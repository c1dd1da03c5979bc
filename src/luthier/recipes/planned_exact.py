"""The dry run of what was planned: the micro-batches of its largest step, as `dry_run` takes them."""

from luthier.data.packing import pack
from luthier.planner.activations import Work
from luthier.planner.data_shape import DataShape
from luthier.recipes.dry_run import BatchShape, ExactPlan, exact
from luthier.recipes.planned import Planned

MOST_BATCHES = 2
"""From the second micro-batch of a step on, nothing new is held."""


def walk(planned: Planned) -> ExactPlan:
    """Walk through the largest step of a plan without memory.

    Raises:
        LuthierError: What the real run would refuse.
        CapacityError: No answer in time.
    """
    plan, settings = planned.plan, planned.plan.decided(planned.resolved.settings)
    pair = settings.objective == "dpo"
    batches = None
    if planned.data is not None:
        batches = _real(planned.data, planned)
    batches = batches or _assumed(plan.work, pair)
    return exact(
        settings,
        config=planned.config,
        device=plan.device,
        batches=batches,
        evaluation=batches[-1:] if planned.data is not None and planned.data.held_out else (),
        reference=batches[-1] if pair else None,
    )


def _real(data: DataShape, planned: Planned) -> list[BatchShape]:
    """Micro-batches of the step with the peak, that one last.

    Another epoch cuts its steps otherwise, so the largest may come when gradients are held already.
    """
    if data.examples is None:
        return []
    cuts = data.largest(planned.plan.cut)
    pieces = cuts.samples[cuts.largest.index(planned.plan.work)]
    return [
        BatchShape.of(
            pack(
                [s for index in piece for s in data.examples[index].sequences],
                share=planned.plan.cut.share,
            )
        )
        for piece in reversed(pieces[:MOST_BATCHES])
    ]


def _assumed(work: Work, pair: bool) -> list[BatchShape]:
    """Rows of the longest length that fill the largest micro-batch."""
    count = max(1, work.tokens // max(1, work.longest * (3 if pair else 2) // 2))
    if not pair:
        count = max(1, round(work.tokens / work.longest))
        length, learned = work.tokens // count, max(1, work.targets // count)
        shape = BatchShape.plain([length] * count, [learned] * count)
    else:
        shape = _pairs(count, work.tokens // count, max(1, work.targets // count // 2))
    return [shape] * min(MOST_BATCHES, work.micro_batches)


def _pairs(count: int, tokens: int, learned: int) -> BatchShape:
    """Pairs that share a third of their tokens."""
    nodes: list[tuple[int, int, tuple[tuple[int, int], ...]]] = []
    leaves = []
    third = max(1, tokens // 3)
    for number in range(count):
        start = number * 3 * third
        prompt = (start, start + third)
        nodes.append((*prompt, ()))
        for answer in (1, 2):
            leaves.append(len(nodes))
            nodes.append((start + answer * third, start + (answer + 1) * third, (prompt,)))
    return BatchShape(tuple(nodes), (learned,) * len(leaves), tuple(leaves))
