"""The loop: the only place where a gradient is made.

A step's loss is a sum over its samples, divided once by the step's units (weight of learned tokens,
or pairs) counted by the plan before any forward pass.  How the samples are cut into micro-batches
or spread over ranks therefore cannot change the update.  When memory runs out the gradients are
dropped and the same step is repeated with a finer cut; a loss scale that overflows is halved
(and grows again later) and the step repeated; a number that is not finite stops the run before it reaches a weight.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, Protocol, TypeVar

from torch import Tensor

from luthier.engine.distribution import Ranks
from luthier.engine.memory import is_out_of_memory, release_memory
from luthier.engine.optim import Updater
from luthier.errors import NonFiniteError
from luthier.objectives.terms import Terms

GROWTH_STEPS = 2000
"""Steps without overflow after which the loss scale doubles, as torch's GradScaler has it."""

Batch = TypeVar("Batch")
BatchIn = TypeVar("BatchIn", contravariant=True)


class StepShare(NamedTuple, Generic[Batch]):
    """This rank's share of one optimiser step, cut into the micro-batches that fit."""

    number: int  # from 1
    units: float  # of the whole step, over all ranks
    batches: Sequence[Batch]
    tokens: int  # token positions computed by this rank
    rows: str  # where the samples came from, for messages


class Objective(Protocol[BatchIn]):
    """Runs the model on a micro-batch and sums its loss, with gradient where enabled."""

    def __call__(self, batch: BatchIn, /) -> Terms: ...


@dataclass(frozen=True, slots=True)
class StepReport:
    """What one optimiser step did."""

    number: int
    loss: float  # mean per unit, nats
    grad_norm: float  # before clipping, of the true (unscaled) gradient
    learning_rate: float
    metrics: dict[str, float]  # means per unit
    units: float
    tokens: int  # computed by all ranks
    micro_batches: int
    seconds: float


@dataclass(slots=True)
class LoopState:
    """What the loop itself carries from step to step; saved in checkpoints.

    Args:
        loss_scale: Factor on the loss of a float16 run; 1 where nothing is scaled.
        clean_steps: Steps since it last changed.
    """

    loss_scale: float = 1.0
    clean_steps: int = 0
    notes: list[str] = field(default_factory=list)
    scales: bool = field(init=False)

    def __post_init__(self) -> None:
        self.scales = self.loss_scale != 1.0

    def overflowed(self, step: int) -> None:
        """Halve the scale."""
        self.loss_scale, self.clean_steps = self.loss_scale / 2, 0
        self.notes.append(f"step {step}: float16 gradient overflow, loss scale {self.loss_scale:g}")

    def was_clean(self) -> None:
        """Count a step without overflow; after `GROWTH_STEPS` of them the scale doubles."""
        if not self.scales:
            return
        self.clean_steps += 1
        if self.clean_steps == GROWTH_STEPS:
            self.loss_scale, self.clean_steps = self.loss_scale * 2, 0


class Interrupted(Exception):  # noqa: N818 - not an error: the step is dropped, the state is that of the step before
    """A stop was asked for between two micro-batches."""


def train(
    objective: Objective[Batch],
    plan: Callable[[int], StepShare[Batch]],
    updater: Updater,
    *,
    first_step: int,
    last_step: int,
    learning_rate: Callable[[int], float],
    on_step: Callable[[StepReport], str | None],
    shrink: Callable[[int, BaseException], None],
    ranks: Ranks | None = None,
    state: LoopState | None = None,
    should_stop: Callable[[], bool] = lambda: False,
    on_non_finite: Callable[[NonFiniteError], NonFiniteError] = lambda error: error,
) -> str:
    """Run optimiser steps `first_step` to `last_step`, both included.

    Args:
        objective: Forward pass and loss of one micro-batch.
        plan: This rank's share of a step; asked again after `shrink` made the cut finer.
        updater: Gradients, clipping and optimiser.
        learning_rate: Rate of a step.
        on_step: Called after each update; a text ends the run with that reason.
        shrink: Makes the cut of a step finer after memory ran out, or raises.
        should_stop: Asked between micro-batches; a stop drops the step in progress.
        on_non_finite: Called when the weights are still those of the step before; returns the
            error to raise.

    Returns:
        Why it ended: `completed`, `interrupted`, or what `on_step` said.

    Raises:
        NonFiniteError: Before the update, so the weights stay those of the step before.
    """
    ranks, state = ranks or Ranks(), state or LoopState()
    updater.allocate()
    number = first_step
    while number <= last_step:
        started = time.monotonic()
        try:
            report = _one_step(
                objective, plan(number), updater, learning_rate(number), ranks, state, should_stop
            )
        except Interrupted:
            updater.clear()
            return "interrupted"
        except NonFiniteError as error:
            raise on_non_finite(error) from error
        if isinstance(report, BaseException):
            updater.clear()
            shrink(number, report)
            del report
            release_memory()
            continue
        if report is None:
            continue
        number += 1
        if reason := on_step(report(time.monotonic() - started)):
            return reason
    return "completed"


def _one_step(
    objective: Objective[Batch],
    step: StepShare[Batch],
    updater: Updater,
    rate: float,
    ranks: Ranks,
    state: LoopState,
    should_stop: Callable[[], bool],
) -> Callable[[float], StepReport] | BaseException | None:
    """One try: a report to be completed with its seconds, the memory error, or None to repeat."""
    sums: dict[str, float] = {}
    failure: BaseException | None = None
    stop = False
    try:
        sums, stop = _accumulate(objective, step, state.loss_scale, should_stop)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        failure = error.with_traceback(None)  # the frames hold the tensors that filled the memory
    lost, stopped = ranks.sum([float(failure is not None), float(stop)])
    if lost:
        return failure or MemoryError("memory ran out on another rank")
    if stopped:
        raise Interrupted
    totals = ranks.sum_by_name(sums)
    units = totals.pop("units")
    assert math.isclose(units, step.units, rel_tol=1e-5), (
        "the plan and the objective count differently"
    )
    try:
        grad_norm = updater.prepare(ranks, state.loss_scale)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error) or ranks.size > 1:
            raise
        return error.with_traceback(None)
    means = {name: total / step.units for name, total in totals.items()}
    loss = means.pop("loss")
    if math.isfinite(loss) and not math.isfinite(grad_norm) and state.loss_scale > 1:
        state.overflowed(step.number)
        updater.clear()
        return None
    if not (math.isfinite(loss) and math.isfinite(grad_norm)):
        updater.clear()
        raise NonFiniteError(
            f"step {step.number}: loss {loss}, gradient norm {grad_norm}",
            why="an update that is not a number destroys the weights; this one was not applied",
            fix=_way_out(step, loss, state),
        )
    updater.apply(rate)
    state.was_clean()
    tokens = int(ranks.sum([step.tokens])[0])

    def report(seconds: float) -> StepReport:
        return StepReport(
            step.number,
            loss,
            grad_norm,
            rate,
            means,
            step.units,
            tokens,
            len(step.batches),
            seconds,
        )

    return report


def _way_out(step: StepShare[Batch], loss: float, state: LoopState) -> str:
    rows = f"look at the rows of this step: {step.rows}"
    if state.scales and not math.isfinite(loss):
        # A rate of learning cannot be the cause of a forward pass that leaves the range.
        return f"--torch_dtype bfloat16 or float32: float16 ends at 65,504; or {rows}"
    return f"{rows}; or lower learning_rate"


def _accumulate(
    objective: Objective[Batch],
    step: StepShare[Batch],
    scale: float,
    should_stop: Callable[[], bool],
) -> tuple[dict[str, float], bool]:
    """Gradients of all micro-batches; sums of loss, units and metrics in float64."""
    sums: dict[str, Tensor | float] = {"loss": 0.0, "units": 0.0}
    for batch in step.batches:
        if should_stop():
            return dict.fromkeys(sums, 0.0), True
        terms = objective(batch)
        (terms.loss_sum * (scale / step.units)).backward()
        parts = {**terms.metrics, "loss": terms.loss_sum.detach(), "units": terms.units}
        for name, part in parts.items():
            part = part.detach().double() if isinstance(part, Tensor) else part
            sums[name] = sums.get(name, 0.0) + part
    return {name: float(value) for name, value in sums.items()}, False
