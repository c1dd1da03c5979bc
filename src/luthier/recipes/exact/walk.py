"""The dry run of what was planned: the micro-batches of its largest step, as `dry_run` takes them."""

from luthier.data.packing.pack import pack
from luthier.planner.activations import Work
from luthier.planner.data_shape import DataShape
from luthier.recipes.before.planned import PlannedRun
from luthier.recipes.exact.dry_run import BatchShape, ExactPlan, exact


def walk(planned: PlannedRun) -> ExactPlan:
    """Walk through the largest step of a plan without memory.

    Raises:
        LuthierError: What the real run would refuse.
        CapacityError: No answer in time.
    """
    plan, settings = planned.plan, planned.settings
    pair = settings.objective == "dpo"
    batch = _real(planned.data, planned) if planned.data is not None else None
    batch = batch or _assumed(plan.work, pair)
    return exact(
        settings,
        config=planned.config,
        device=plan.device,
        batches=[batch],
        evaluation=[batch] if planned.data is not None and planned.data.held_out else (),
        reference=_reference(settings.objective, batch, plan.work),
        gradients_held=plan.work.micro_batches > 1,
    )


def _reference(objective: str, batch: BatchShape, work: Work) -> BatchShape | None:
    """What is scored at once under the reference: a pair, or an answer and a mismatched one."""
    if objective == "kto":
        longest = work.longest
        return BatchShape.plain([longest] * 2, [max(1, min(longest - 1, work.targets))] * 2)
    return batch if objective == "dpo" else None


def _real(data: DataShape, planned: PlannedRun) -> BatchShape | None:
    """The micro-batch with the peak.

    Another epoch cuts its steps otherwise, so it may come when gradients are held already.
    """
    if data.examples is None:
        return None
    cuts = data.largest(planned.plan.cut)
    piece, *_ = cuts.samples[cuts.largest.index(planned.plan.work)]
    sequences = [s for index in piece for s in data.examples[index].sequences]
    return BatchShape.of(pack(sequences, share=planned.plan.cut.share))


def _assumed(work: Work, pair: bool) -> BatchShape:
    """Rows of the longest length that fill the largest micro-batch."""
    if pair:
        count = max(1, work.tokens // max(1, work.longest * 3 // 2))
        return _pairs(count, work.tokens // count, max(1, work.targets // count // 2))
    count = max(1, round(work.tokens / work.longest))
    length, learned = work.tokens // count, max(1, work.targets // count)
    return BatchShape.plain([length] * count, [learned] * count)


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
