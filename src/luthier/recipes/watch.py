"""What happens between two optimiser steps: log, evaluate, save, stop."""

import statistics
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from luthier.engine.best import Best
from luthier.engine.loop import LoopState, StepReport
from luthier.runs import EventLog

SPIKE = 10.0
"""A loss this many times the running median is worth a warning."""


@dataclass(frozen=True, slots=True)
class Rhythm:
    """Every how many optimiser steps something is due."""

    logging: int
    evaluating: int | None
    saving: int
    last: int

    def due(self, step: int, every: int | None) -> bool:
        """Whether `every` divides the step, or it is the last one."""
        return every is not None and (step % every == 0 or step == self.last)


@dataclass
class Watcher:
    """Called after each update; says why to stop, if so.

    Args:
        evaluate: Held-out means, or None without held-out data.
        save: Writes a checkpoint and returns its folder.
        stop_requested: Whether a signal asked for the end.
        quiet: True on ranks that write nothing.
    """

    log: EventLog | None
    rhythm: Rhythm
    best: Best
    state: LoopState
    evaluate: Callable[[], dict[str, float]] | None
    save: Callable[[int], Path | None]
    stop_requested: Callable[[], bool]
    unit: str
    saved_at: int = 0
    evaluated_at: int = -1
    history: dict[str, Any] = field(default_factory=dict)
    _losses: deque[float] = field(default_factory=lambda: deque(maxlen=50))
    _seconds: deque[float] = field(default_factory=lambda: deque(maxlen=20))

    def emit(self, type: Any, **fields: Any) -> None:
        """Write an event, on the rank that writes."""
        if self.log is not None:
            self.log.emit(type, **fields)

    def __call__(self, report: StepReport) -> str | None:
        """Log, evaluate and save what is due at this step."""
        self._log_step(report)
        step = report.number
        stop = self.stop_requested()
        improved = False
        if self.rhythm.due(step, self.rhythm.evaluating) and not stop:
            improved = self.run_evaluation(step)
        if improved or stop or self.rhythm.due(step, self.rhythm.saving):
            self.save_once(step)
        if stop:
            return "interrupted"
        if self.best.exhausted and step < self.rhythm.last:
            self.save_once(step)
            return "early_stopping"
        return None

    def resume(self, step: int, history: dict[str, Any]) -> None:
        """Go on behind a checkpoint of `step`."""
        self.history.update(history)
        self.saved_at = self.evaluated_at = step

    def save_once(self, step: int) -> None:
        """A checkpoint of this step, unless there is one."""
        if self.saved_at != step:
            self.save(step)
            self.saved_at = step

    def run_evaluation(self, step: int) -> bool:
        """Evaluate; returns whether it is the best so far.  Step 0 is the model before training."""
        if self.evaluate is None:
            return False
        started = time.monotonic()
        metrics = self.evaluate()
        self.evaluated_at = step
        self.history["last" if step else "before"] = metrics
        better = step > 0 and self.best.update(step, metrics[self.best.metric])
        if better:
            self.history["best"] = metrics
        self.emit(
            "evaluated",
            step=step,
            metrics=metrics,
            best=better,
            best_step=self.best.step,
            seconds=time.monotonic() - started,
        )
        return better

    def _log_step(self, report: StepReport) -> None:
        for note in self.state.notes:
            self.emit("warning", text=note)
        self.state.notes.clear()
        median = statistics.median(self._losses) if len(self._losses) >= 10 else None
        if median is not None and report.loss > SPIKE * median > 0:
            text = f"step {report.number}: loss {report.loss:.4g} is {report.loss / median:.0f} times the running median"
            self.emit("warning", text=text)
        self._losses.append(report.loss)
        self._seconds.append(report.seconds)
        if not self.rhythm.due(report.number, self.rhythm.logging):
            return
        remaining = self.rhythm.last - report.number
        self.emit(
            "step",
            step=report.number,
            total=self.rhythm.last,
            loss=report.loss,
            grad_norm=report.grad_norm,
            learning_rate=report.learning_rate,
            metrics=report.metrics,
            units=report.units,
            unit=self.unit,
            tokens=report.tokens,
            micro_batches=report.micro_batches,
            seconds=report.seconds,
            tokens_per_s=report.tokens / max(report.seconds, 1e-9),
            eta_s=remaining * statistics.median(self._seconds),
        )
