"""Held-out evaluation by the objective of the training itself."""

from collections.abc import Callable

import torch
from torch import Tensor

from luthier.engine.distribution import Ranks
from luthier.engine.loop import Batch, Interrupted, Objective, StepShare
from luthier.engine.memory import is_out_of_memory, release_memory


@torch.no_grad()
def evaluate(
    objective: Objective[Batch],
    plan: Callable[[], StepShare[Batch]],
    *,
    shrink: Callable[[int, BaseException], None],
    ranks: Ranks | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> dict[str, float]:
    """Means per unit over all held-out samples, `loss` among them.

    Args:
        objective: As in training; dropout is off because no gradient is asked for.
        plan: This rank's share of the held-out samples as one step; asked again after `shrink`.
        shrink: Makes the cut finer after memory ran out, or raises.
        should_stop: Asked between micro-batches.

    Raises:
        Interrupted: A stop was asked for; nothing has changed.
    """
    ranks = ranks or Ranks()
    while True:
        step = plan()
        failure: BaseException | None = None
        stop = False
        sums: dict[str, Tensor | float] = {"loss": 0.0}
        try:
            for batch in step.batches:
                if stop := should_stop():
                    break
                terms = objective(batch)
                for name, part in {**terms.metrics, "loss": terms.loss_sum}.items():
                    sums[name] = sums.get(name, 0.0) + (
                        part.double() if isinstance(part, Tensor) else part
                    )
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            failure = error.with_traceback(None)
        lost, stopped = ranks.sum([float(failure is not None), float(stop)])
        if stopped:
            raise Interrupted
        if lost:
            shrink(step.number, failure or MemoryError("memory ran out on another rank"))
            failure = None
            release_memory()
            continue
        totals = ranks.sum_by_name({name: float(total) for name, total in sums.items()})
        return {name: total / step.units for name, total in totals.items()}
