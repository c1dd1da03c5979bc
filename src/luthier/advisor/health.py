"""How a run is doing: its events, read as somebody with experience would.

`judge` is a pure function of the events of one run, in order, as `luthier.events.read_events` gives them;
live and afterwards the same figures give the same judgement.  Thresholds stand in one place below.
Losses are nats per token or pair.
"""

import math
import statistics
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypedDict

from luthier.advisor.speech import text
from luthier.events import DataRead, Evaluated, Event, Finished, Planned, Started, Step, stands

FEWEST_ROWS = 50
WINDOW = 20
"""Steps over which training figures are averaged; fewer say nothing about the run."""

WORSE, BETTER = 0.02, 0.02
"""Shares of the held-out loss: rises above the best that count, and falls at the end that count."""

FLAT = 0.001
SPIKE, SPIKES = 2.0, 3
DIVERGED = 1.5
GRADIENT_JUMP = 20.0
MARGIN_TOO_LARGE = 10.0
SATURATED_ACCURACY, SATURATED_LOSS = 0.99, 0.05
UNDECIDED = 0.55
CHOSEN_FALL = 0.1
LENGTH_BIAS = 0.7

Severity = Literal["note", "warning"]
Found = dict[str, object] | None


class JudgementFields(TypedDict):
    """A judgement in a language, as plain values."""

    code: str
    severity: Severity
    params: Mapping[str, Any]
    text: str
    action: str


@dataclass(frozen=True, slots=True)
class Judgement:
    """One thing that was seen.

    Args:
        code: One of `CODES`; messages `health.<code>` and `action.<code>` belong to it.
        severity: `warning` where something should be done, `note` where it may.
        params: Numbers of this run.
        action: What to do, in English.
    """

    code: str
    severity: Severity
    params: Mapping[str, Any]
    action: str

    def text(self, lang: str = "en") -> str:
        """What was seen, in a sentence."""
        return text(f"health.{self.code}", self.params, lang)

    def advice(self, lang: str = "en") -> str:
        """What to do about it."""
        return text(f"action.{self.code}", self.params, lang)

    def to_dict(self, lang: str = "en") -> JudgementFields:
        """Plain values."""
        return {
            "code": self.code,
            "severity": self.severity,
            "params": dict(self.params),
            "text": self.text(lang),
            "action": self.advice(lang),
        }


@dataclass
class Seen:
    """The figures of a run that judgements need, gathered event by event."""

    steps: list[Step] = field(default_factory=list)
    evaluations: list[Evaluated] = field(default_factory=list)
    samples: int | None = None
    chosen_longer: float | None = None
    dpo: bool = False
    finished: bool = False

    def add(self, event: Event) -> None:
        """Take in one event."""
        match event:
            case Started():
                self.dpo = event.objective == "dpo"
            case Planned():
                self.samples = event.samples
            case DataRead():
                share = event.train.get("chosen_longer")
                self.chosen_longer = share if isinstance(share, float) else None
            case Step() if _is_finite(event.loss):
                self.steps.append(event)
            case Evaluated() if _is_finite(event.metrics.get("loss")):
                self.evaluations.append(event)
            case Finished():
                self.finished = event.reason != "interrupted"

    def forget(self, step: int) -> None:
        """Leave out what came after a step, which a resume has made void."""
        self.steps = [one for one in self.steps if stands(one, step)]
        self.evaluations = [one for one in self.evaluations if stands(one, step)]

    def keep_latest(self, count: int) -> None:
        """Leave out old steps, all but the first few, once there are far more than `count`."""
        if len(self.steps) > 2 * count:
            self.steps = [*self.steps[:WINDOW], *self.steps[-count:]]

    def losses(self) -> list[float]:
        """Training losses in order."""
        return [step.loss for step in self.steps if step.loss is not None]

    def held_out(self) -> list[tuple[int, float]]:
        """Step and held-out loss of every evaluation after the first step."""
        return [(one.step, one.metrics["loss"]) for one in self.evaluations if one.step > 0]

    def metric(self, name: str) -> list[float]:
        """A figure of the training steps, where it is known."""
        found = (step.metrics.get(name) for step in self.steps if step.metrics)
        return [value for value in found if value is not None and math.isfinite(value)]


def _is_finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def judge(events: Iterable[Event]) -> list[Judgement]:
    """What is to be said about a run, warnings first.

    Args:
        events: Of one run in order, without those that a resume made void.
    """
    seen = Seen()
    for event in events:
        seen.add(event)
    return judge_seen(seen)


def judge_seen(seen: Seen) -> list[Judgement]:
    """The same for figures that are gathered already."""
    found = []
    for code, severity, rule in TABLE:
        if code.startswith("dpo_") and not seen.dpo:
            continue
        if (params := rule(seen)) is not None:
            found.append(Judgement(code, severity, params, text(f"action.{code}", params)))
    return sorted(found, key=lambda judgement: judgement.severity != "warning")


def _too_little_data(seen: Seen) -> Found:
    few = seen.samples is not None and seen.samples < FEWEST_ROWS
    return {"samples": seen.samples} if few else None


def _overfitting(seen: Seen) -> Found:
    points = seen.held_out()
    if len(points) < 2 or not seen.steps:
        return None
    best_step, best = min(points, key=lambda point: point[1])
    last = points[-1][1]
    train = statistics.fmean(seen.losses()[-WINDOW:])
    learned = [s.loss for s in seen.steps if s.step <= best_step and s.loss is not None][-WINDOW:]
    still_falling = bool(learned) and train < statistics.fmean(learned)
    if points[-1][0] == best_step or last < best * (1 + WORSE) or not still_falling:
        return None
    return {"best": best, "best_step": best_step, "last": last, "train": train}


def _underfitting(seen: Seen) -> Found:
    points = seen.held_out()
    if not seen.finished or len(points) < 2:
        return None
    previous, last = points[-2][1], points[-1][1]
    drop = (previous - last) / abs(previous) if previous else 0.0
    lowest = last == min(loss for _, loss in points)
    return {"previous": previous, "last": last, "drop": drop} if lowest and drop > BETTER else None


def _plateau(seen: Seen) -> Found:
    last = [loss for _, loss in seen.held_out()[-4:]]
    if len(last) < 4 or max(last) - min(last) > FLAT * abs(last[-1]):
        return None
    return {"evaluations": len(last), "loss": last[-1]}


def _no_gain(seen: Seen) -> Found:
    points = seen.held_out()
    before = next((one.metrics["loss"] for one in seen.evaluations if one.step == 0), None)
    if before is None or len(points) < 2:
        return None
    best = min(loss for _, loss in points)
    return {"before": before, "best": best} if best >= before else None


def _spikes(seen: Seen) -> Found:
    losses = seen.losses()
    spikes = []
    for place in range(WINDOW, len(losses)):
        median = statistics.median(losses[place - WINDOW : place])
        if median > 0 and losses[place] > SPIKE * median:
            spikes.append(place)
    if len(spikes) < SPIKES or seen.dpo:
        return None
    return {"count": len(spikes), "times": SPIKE, "step": seen.steps[spikes[-1]].step}


def _diverging(seen: Seen) -> Found:
    losses = seen.losses()
    if len(losses) < 2 * WINDOW:
        return None
    means = [
        statistics.fmean(losses[start : start + WINDOW])
        for start in range(0, len(losses) - WINDOW + 1, WINDOW)
    ]
    now, low = statistics.fmean(losses[-WINDOW:]), min(means)
    if low <= 0 or now < DIVERGED * low or now - low < 0.2:
        return None
    return {"low": low, "now": now, "step": seen.steps[-1].step}


def _gradients(seen: Seen) -> Found:
    known = [(s.step, s.grad_norm) for s in seen.steps if s.grad_norm is not None]
    late = known[WINDOW:]  # the first steps of an adapter are unlike all later ones
    if len(late) < WINDOW:
        return None
    median = statistics.median(norm for _, norm in late)
    step, worst = max(late, key=lambda pair: pair[1])
    if median <= 0 or worst < GRADIENT_JUMP * median:
        return None
    return {"worst": worst, "times": worst / median, "step": step}


def _chosen_falls(seen: Seen) -> Found:
    values = _points(seen, "logps_chosen")
    if len(values) < 2:
        return None
    start, now = values[0], values[-1]
    fell = start - now
    return {"start": start, "now": now} if fell > max(1.0, CHOSEN_FALL * abs(start)) else None


def _points(seen: Seen, name: str) -> list[float]:
    """A figure at the evaluations; without held-out pairs, means over the first and last steps."""
    held_out = [one.metrics[name] for one in seen.evaluations if name in one.metrics]
    if len(held_out) >= 2:
        return held_out
    values = seen.metric(name)
    if len(values) < 2 * WINDOW:
        return []
    return [statistics.fmean(values[:WINDOW]), statistics.fmean(values[-WINDOW:])]


def _margins(seen: Seen) -> Found:
    values = seen.metric("rewards_margins")[-WINDOW:]
    if len(values) < WINDOW or (margin := statistics.fmean(values)) < MARGIN_TOO_LARGE:
        return None
    return {"margin": margin}


def _saturated(seen: Seen) -> Found:
    ranked, losses = seen.metric("rewards_accuracy")[-WINDOW:], seen.losses()[-WINDOW:]
    if len(ranked) < WINDOW or len(losses) < WINDOW:
        return None
    accuracy, loss = statistics.fmean(ranked), statistics.fmean(losses)
    over = accuracy >= SATURATED_ACCURACY and loss <= SATURATED_LOSS
    return {"accuracy": accuracy, "loss": loss} if over else None


def _length_bias(seen: Seen) -> Found:
    share = seen.chosen_longer
    return {"share": share} if share is not None and share >= LENGTH_BIAS else None


def _undecided(seen: Seen) -> Found:
    ranked = seen.metric("rewards_accuracy")
    if not seen.finished or len(ranked) < WINDOW:
        return None
    accuracy = statistics.fmean(ranked[-WINDOW:])
    return {"accuracy": accuracy} if accuracy <= UNDECIDED else None


TABLE: tuple[tuple[str, Severity, Callable[[Seen], Found]], ...] = (
    ("too_little_data", "note", _too_little_data),
    ("overfitting", "warning", _overfitting),
    ("underfitting", "note", _underfitting),
    ("plateau", "note", _plateau),
    ("no_gain", "warning", _no_gain),
    ("spikes", "warning", _spikes),
    ("diverging", "warning", _diverging),
    ("gradients", "note", _gradients),
    ("dpo_chosen_falls", "warning", _chosen_falls),
    ("dpo_margins", "warning", _margins),
    ("dpo_saturated", "note", _saturated),
    ("dpo_length_bias", "note", _length_bias),
    ("dpo_undecided", "note", _undecided),
)
"""Code, severity and rule; a rule gives the numbers of its message, or None."""

CODES = tuple(code for code, _, _ in TABLE)
