"""Events of a run as sentences that fit a terminal of 80 columns."""

import shutil
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from luthier.units import format_bytes, format_duration, format_rate

WIDTH = 80
METHODS = {"lora": "LoRA", "qlora": "QLoRA", "full": "every weight"}
OBJECTIVES = {"sft": "answers", "dpo": "preferences", "text": "plain text"}
ENDS = {
    "completed": "finished after",
    "finished": "finished after",
    "early_stopping": "stopped early, as nothing was gained any more, after",
    "ended_on_request": "ended as asked after",
    "interrupted": "stopped after",
}
PAIR_FIGURES = {
    "loss": "loss",
    "accuracy": "pairs ranked right",
    "logps_accuracy": "preferred answer likelier",
    "rewards_margins": "margin",
}
FIGURES = {"loss": "loss", "accuracy": "token accuracy"}
SHARES = frozenset({"accuracy", "logps_accuracy"})


def wrapped(text: str) -> str:
    """Text in lines of at most the terminal's width, 80 where there is none; further lines are set in."""
    width = max(40, shutil.get_terminal_size((WIDTH, 24)).columns)
    made: list[str] = []
    for row in text.split("\n"):
        inset = " " * (len(row) - len(row.lstrip()) + 2)
        made += textwrap.wrap(
            row,
            width,
            subsequent_indent=inset,
            break_long_words=False,
            break_on_hyphens=False,
            replace_whitespace=False,
            drop_whitespace=True,
        ) or [""]
    return "\n".join(made)


def step_figures(fields: Mapping[str, Any]) -> str:
    """Loss, learning rate, speed and time left of a step."""
    formats: dict[str, Callable[[float], str]] = {
        "loss": lambda value: f"loss {value:.4f}",
        "learning_rate": lambda value: f"lr {value:.2e}",
        "tokens_per_s": format_rate,
        "eta_s": lambda value: f"{format_duration(value)} left",
    }
    shown = ((name, fields.get(name)) for name in formats)
    return "  ".join(formats[name](value) for name, value in shown if value is not None)


def describe(fields: Mapping[str, Any]) -> str:
    """An event that is not a step, in a line or a few; empty where nothing is to be said."""
    said = _SENTENCES.get(fields["type"])
    return "" if said is None else "\n".join(said(fields))


def _said(fields: Mapping[str, Any]) -> Iterator[str]:
    text = fields.get("text", "")
    yield f"warning: {text}" if fields["type"] == "warning" else f"note: {text}"


def _started(fields: Mapping[str, Any]) -> Iterator[str]:
    how = METHODS.get(fields.get("method") or "", fields.get("method"))
    what = OBJECTIVES.get(fields.get("objective") or "", fields.get("objective"))
    number = fields.get("devices") or 1
    machine = f"{number} x {fields.get('device')}" if number > 1 else fields.get("device")
    parts = [
        "training",
        fields.get("model"),
        what and f"on {what}",
        how and f"with {how}",
        machine and f"on {machine}",
    ]
    yield " ".join(str(part) for part in parts if part)
    if fields.get("path"):
        yield f"run directory: {fields['path']}"


def _resumed(fields: Mapping[str, Any]) -> Iterator[str]:
    yield f"going on from step {fields.get('from_step', 0):,}"


def _data(fields: Mapping[str, Any]) -> Iterator[str]:
    """What the rows of each part became."""
    for part, title in (("train", "data"), ("eval", "held out")):
        report = fields.get(part)
        if isinstance(report, Mapping):
            yield f"{title}: {', '.join(_rows(report))}"


def _rows(report: Mapping[str, Any]) -> Iterator[str]:
    counts = report.get("rows")
    if not isinstance(counts, Mapping):
        yield _counted(counts or 0, "row")
        return
    mix = report.get("mix") or {}
    formats = ", ".join(mix) if len(mix) == 1 else ", ".join(f"{n} {c:,}" for n, c in mix.items())
    kind = f" ({formats})" if formats else ""
    yield f"{_counted(counts.get('read', 0), 'row')} read{kind}"
    if counts.get("used", counts.get("read")) != counts.get("read"):
        yield f"{counts['used']:,} used"
    for name, word in (("dropped", "left out"), ("cut", "cut")):
        if counts.get(name):
            yield f"{counts[name]:,} {word}"
    if report.get("tokens"):
        learned = report.get("supervised_tokens")
        more = f", {learned:,} of them learned" if learned else ""
        yield f"{report['tokens']:,} tokens{more}"


def _planned(fields: Mapping[str, Any]) -> Iterator[str]:
    parts = []
    if fields.get("steps") is not None:
        parts.append(_counted(fields["steps"], "step"))
    if fields.get("samples_per_step"):
        parts.append(f"{fields['samples_per_step']:,} samples each")
    if fields.get("steps_per_epoch"):
        parts.append(f"{_counted(fields['steps_per_epoch'], 'step')} an epoch")
    yield f"plan: {', '.join(parts) or 'made'}"
    if fields.get("trained_parameters") and fields.get("parameters"):
        yield f"  {fields['trained_parameters']:,} weights are trained, of {fields['parameters']:,}"
    if fields.get("disk_bytes"):
        yield f"  checkpoints and result take {format_bytes(fields['disk_bytes'])} of disk"
    for name, (value, why) in (fields.get("chosen") or {}).items():
        yield f"  {name} {_value(value)}: {why}"


def _plan_checked(fields: Mapping[str, Any]) -> Iterator[str]:
    measured, predicted = fields.get("measured_bytes"), fields.get("predicted_bytes")
    if measured and predicted:
        yield f"memory: {format_bytes(measured)} measured, {format_bytes(predicted)} predicted"


def _value(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "none", True: "yes", False: "no"}[value]
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _evaluated(fields: Mapping[str, Any]) -> Iterator[str]:
    worse = fields.get("start_was_better") is True
    said = "the best so far, but worse than before training" if worse else "the best so far"
    best = f" ({said})" if fields.get("best") is True else ""
    step = fields.get("step", 0)
    where = f"after step {step:,}" if step else "before training"
    yield f"held out {where}: {held_out_figures(fields.get('metrics') or {})}{best}"


def held_out_figures(metrics: Mapping[str, Any]) -> str:
    """The figures people look at, in words: shares in percent, nothing below a millionth."""
    titles = PAIR_FIGURES if any(name.startswith("rewards") for name in metrics) else FIGURES
    shown = []
    for name, title in titles.items():
        value = metrics.get(name)
        if value is not None:
            zero = abs(value) < 1e-6
            number = f"{value:.1%}" if name in SHARES else "0" if zero else f"{value:.4g}"
            shown.append(f"{title} {number}")
    return ", ".join(shown)


def _checkpoint(fields: Mapping[str, Any]) -> Iterator[str]:
    size = f", {format_bytes(fields['bytes'])}" if fields.get("bytes") else ""
    yield f"checkpoint saved: {fields.get('path', '')}{size}"


def _finished(fields: Mapping[str, Any]) -> Iterator[str]:
    seconds = fields.get("seconds")
    took = f" in {format_duration(seconds)}" if seconds is not None else ""
    reason = str(fields.get("reason", "finished"))
    how = ENDS.get(reason, f"{reason} after")
    yield f"{how} {_counted(fields.get('step', 0), 'step')}{took}"
    if fields.get("result"):
        yield f"result: {fields['result']}"


def _failed(fields: Mapping[str, Any]) -> Iterator[str]:
    yield f"failed: {fields.get('what', '')}"


def _counted(number: int, word: str) -> str:
    return f"{number:,} {word}{'' if number == 1 else 's'}"


_SENTENCES: dict[str, Callable[[Mapping[str, Any]], Iterable[str]]] = {
    "started": _started,
    "notice": _said,
    "warning": _said,
    "resumed": _resumed,
    "data": _data,
    "planned": _planned,
    "plan_checked": _plan_checked,
    "evaluated": _evaluated,
    "checkpoint": _checkpoint,
    "finished": _finished,
    "failed": _failed,
}
