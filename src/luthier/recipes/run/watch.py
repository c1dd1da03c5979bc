"""What happens between two optimiser steps: log, evaluate, save, stop."""

import math
import statistics
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from luthier.engine.best import Best
from luthier.engine.loop import Interrupted, LoopState, StepReport
from luthier.errors import NonFiniteError
from luthier.events import Evaluated, Event, Step, Warned
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
        save: Writes a checkpoint of a step, with what `resume` is given, and returns its folder.
        stop_requested: Whether a signal asked for the end.
        end_requested: Whether training shall end here, with a result.
        quiet: True on ranks that write nothing.
    """

    log: EventLog | None
    rhythm: Rhythm
    best: Best
    state: LoopState
    evaluate: Callable[[], dict[str, float]] | None
    save: Callable[[int, Mapping[str, Any]], Path | None]
    stop_requested: Callable[[], bool]
    unit: str
    end_requested: Callable[[], bool] = lambda: False
    saved_at: int = 0
    evaluated_at: int = -1
    history: dict[str, Any] = field(default_factory=dict)
    _losses: deque[float] = field(default_factory=lambda: deque(maxlen=50))
    _seconds: deque[float] = field(default_factory=lambda: deque(maxlen=20))

    def emit(self, event: Event) -> None:
        """Write an event, on the rank that writes."""
        if self.log is not None:
            self.log.emit(event)

    def __call__(self, report: StepReport) -> str | None:
        """Log, evaluate and save what is due at this step."""
        self._log_step(report)
        step = report.number
        stop = self.stop_requested()
        improved = False
        if self.rhythm.due(step, self.rhythm.evaluating) and not stop:
            try:
                improved = self.run_evaluation(step)
            except Interrupted:
                stop = True
        if improved or stop or self.rhythm.due(step, self.rhythm.saving):
            self.save_once(step)
        if stop:
            return "interrupted"
        if self.best.exhausted and step < self.rhythm.last:
            self.save_once(step)
            return "early_stopping"
        if self.end_requested() and step < self.rhythm.last:
            return "ended_on_request"
        return None

    def resume(self, step: int, saved: Mapping[str, Any]) -> None:
        """Go on behind a checkpoint of `step`, with what `state` said then.

        A stop does not wait for an evaluation that is due; it is made up for here.

        Raises:
            Interrupted: A stop was asked for again; nothing has changed.
        """
        self.history.update(saved["history"])
        self.saved_at, self.evaluated_at = step, saved["evaluated_at"]
        if self.rhythm.due(step, self.rhythm.evaluating) and self.evaluated_at != step:
            self.run_evaluation(step)
            self._save(step)

    def save_once(self, step: int) -> None:
        """A checkpoint of this step, unless there is one."""
        if self.saved_at != step:
            self._save(step)
            self.saved_at = step

    def _save(self, step: int) -> None:
        self.save(step, {"history": self.history, "evaluated_at": self.evaluated_at})

    def run_evaluation(self, step: int) -> bool:
        """Evaluate; returns whether it is the best so far.  Step 0 is the model before training.

        Raises:
            NonFiniteError: The held-out loss is not a number.
            Interrupted: A stop was asked for; the evaluation is still due.
        """
        if self.evaluate is None:
            return False
        started = time.monotonic()
        metrics = self.evaluate()
        if not math.isfinite(metrics["loss"]):
            raise NonFiniteError(
                f"step {step}: the held-out loss is {metrics['loss']}",
                why="a model that gives no number for a row is of no use, whatever it learns"
                + ("" if step else "; this is the base model, before the first step"),
                fix="--torch_dtype float32 shows whether 16 bits are too few; otherwise look at the "
                "weights of the model" + (" and lower --learning_rate" if step else ""),
            )
        self.evaluated_at = step
        self.history["last" if step else "before"] = metrics
        better = step > 0 and self.best.update(step, metrics[self.best.metric])
        if better:
            self.history["best"] = metrics
        self.emit(
            Evaluated(
                step=step,
                metrics=metrics,
                best=better,
                best_step=self.best.step,
                start_was_better=better and self.no_gain is not None,
                seconds=time.monotonic() - started,
            )
        )
        return better

    def say_no_gain(self) -> None:
        """Warn where no evaluation was better than the model before training."""
        if text := self.no_gain:
            self.emit(Warned(text=text))

    @property
    def no_gain(self) -> str | None:
        """A sentence where the model before training was better than at every evaluation since."""
        name = self.best.metric
        before = self.history.get("before", {}).get(name)
        if before is None or not self.best.loses_to(before):
            return None
        return (
            f"every evaluation was worse than the model before training: {name} {before:.4g} then, "
            f"{self.best.value:.4g} at best; the result is step {self.best.step} all the same"
        )

    def _log_step(self, report: StepReport) -> None:
        for note in self.state.notes:
            self.emit(Warned(text=note))
        self.state.notes.clear()
        median = statistics.median(self._losses) if len(self._losses) >= 10 else None
        if median is not None and report.loss > SPIKE * median > 0:
            text = f"step {report.number}: loss {report.loss:.4g} is {report.loss / median:.0f} times the running median"
            self.emit(Warned(text=text))
        self._losses.append(report.loss)
        self._seconds.append(report.seconds)
        if not self.rhythm.due(report.number, self.rhythm.logging):
            return
        remaining = self.rhythm.last - report.number
        self.emit(
            Step(
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
        )
