"""A run compares itself with its plan after two steps, and leaves what it learned for the next."""

import resource
import sys
from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from luthier.engine.loop import StepReport
from luthier.events import PlanChecked
from luthier.planner.history import PastRun, record
from luthier.recipes.run.context import RunContext
from luthier.units import GIB

COMPARED_AT = 2
"""The optimiser's state is there, and every kind of memory was used once."""

SHORTEST_S = 5.0
"""Steps that took less in all say nothing about the rate."""


@dataclass
class PlanCheck:
    """Called after each step, before anything else is done with it.

    Args:
        parameters: Of the base.
        then: What comes after: logging, evaluation, saving.
    """

    context: RunContext
    parameters: int
    then: Callable[[StepReport], str | None]
    _tokens: int = 0
    _seconds: float = 0.0
    _compared: tuple[int, int, int] | None = field(default=None, repr=False)

    def __call__(self, report: StepReport) -> str | None:
        """Count the step; compare once."""
        if self._compared is None and report.number >= COMPARED_AT:
            self._compare()
        elif self._compared is not None:  # the first steps warm up
            self._tokens += report.tokens
            self._seconds += report.seconds
        return self.then(report)

    def _compare(self) -> None:
        predicted = self.context.plan
        measured, besides, by = self._measure(predicted.allocated_bytes)
        self._compared = (predicted.allocated_bytes, measured, besides)
        self.context.emit(
            PlanChecked(
                predicted_bytes=predicted.allocated_bytes,
                measured_bytes=measured,
                error=(predicted.allocated_bytes - measured) / max(1, measured),
                measured_by=by,
            )
        )

    def _measure(self, allocated: int) -> tuple[int, int, str]:
        """Bytes of tensors, bytes of the process besides, and how they were measured."""
        device = self.context.device
        if device.type == "cuda":
            free, total = torch.cuda.mem_get_info(device)
            peak = torch.cuda.max_memory_allocated(device)
            reserved = torch.cuda.memory_reserved(device)
            slack = max(0, torch.cuda.max_memory_reserved(device) - peak)
            context = min(2 * GIB, max(0, total - free - reserved))  # others may use it too
            return peak, slack + context, "max_memory_allocated"
        largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        largest *= 1 if sys.platform == "darwin" else 1024
        growth = max(1, largest - self.context.resident_bytes)
        return growth, max(0, largest - allocated), "growth of the largest resident size"

    def finish(self) -> None:
        """Keep what this run showed: `luthier plan` of the next one uses it."""
        if self._compared is None or not self.context.ranks.first:
            return
        predicted, decided = self.context.plan, self.context.decided
        rate = None
        if self._seconds >= SHORTEST_S:
            rate = predicted.flops_per_token * self._tokens / self._seconds
            rate /= self.context.ranks.size
        expected, measured, besides = self._compared
        record(
            PastRun(
                device=self.context.facts.name,
                dtype=decided.dtype,
                method=decided.settings.method,
                parameters=self.parameters,
                flops=rate,
                predicted_bytes=expected,
                measured_bytes=measured,
                runtime_bytes=besides,
            )
        )
