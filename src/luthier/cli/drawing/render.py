"""Everything that is drawn: the only user of rich.

A live bar on a terminal, plain lines elsewhere, JSON where it was asked for.
"""

import itertools
import json
import re
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

from luthier.events import Event
from luthier.units import format_bytes, format_duration, format_rate

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

_CONTROL = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_TURNS = re.compile(r"[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
LONGEST_CELL = 60
SECONDS_BETWEEN_LINES = 1.0
QUIET = {"started", "notice", "planned", "data", "checkpoint", "finished"}


def clean(text: str) -> str:
    """Text without escape sequences and control characters, which a terminal would obey.

    Characters that turn the direction of a line are shown as escapes: with them text looks like
    what it is not.
    """
    return _TURNS.sub(lambda turn: f"\\u{ord(turn[0]):04x}", _CONTROL.sub("", text))


def line(text: str) -> None:
    """One line of output."""
    sys.stdout.write(clean(text) + "\n")
    sys.stdout.flush()


def dump(value: Any) -> None:
    """A value as JSON, for programs."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, indent=2, default=str) + "\n")


def cell(value: Any) -> str:
    """A value as people read it."""
    if value is None or value == {}:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, list | tuple):
        return ", ".join(compact(one) if isinstance(one, Mapping) else str(one) for one in value)
    return clean(str(value)).replace("\n", " ")


def table(rows: Sequence[Mapping[str, Any]], *, as_json: bool, empty: str = "nothing") -> None:
    """Rows of the same keys: a table on a terminal, aligned columns elsewhere, or JSON."""
    if as_json:
        dump(list(rows))
        return
    if not rows:
        line(empty)
        return
    cells = [[cell(value) for value in row.values()] for row in rows]
    if sys.stdout.isatty():
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        drawn = Table(*rows[0].keys(), header_style="bold")
        for row in cells:
            drawn.add_row(*map(Text, row))
        Console().print(drawn)
        return
    widths = [max(map(len, column)) for column in zip(rows[0].keys(), *cells, strict=True)]
    for row in [list(rows[0].keys()), *cells]:
        padded = (text.ljust(width) for text, width in zip(row, widths, strict=True))
        line("  ".join(padded).rstrip())


def facts(values: Mapping[str, Any], *, as_json: bool, indent: str = "") -> None:
    """Names and values, nested ones indented, or JSON."""
    if as_json:
        dump(values)
        return
    width = max((len(name) for name in values), default=0)
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            line(f"{indent}{name}")
            facts(value, as_json=False, indent=indent + "  ")
        else:
            line(f"{indent}{name.ljust(width)}  {_named(name, value)}".rstrip())


def _named(name: str, value: Any) -> str:
    """A value whose name may say its unit."""
    if name.endswith("bytes") and isinstance(value, int | float):
        return format_bytes(value)
    return cell(value)


def side_by_side(titles: Sequence[str], texts: Sequence[str]) -> None:
    """Texts in columns under their titles, wrapped to the width of the terminal."""
    for part in columns(titles, texts):
        line(part)


def columns(titles: Sequence[str], texts: Sequence[str]) -> list[str]:
    """The lines of texts side by side."""
    total = shutil.get_terminal_size((100, 24)).columns
    width = max(20, (min(total, 160) - 3 * (len(texts) - 1)) // len(texts))
    wrapped = [
        [
            title,
            "-" * width,
            *(part for row in text.splitlines() or [""] for part in _wrap(row, width)),
        ]
        for title, text in zip(titles, map(clean_lines, texts), strict=True)
    ]
    height = max(map(len, wrapped))
    filled = [[*column, *[""] * (height - len(column))] for column in wrapped]
    return [
        " | ".join(part.ljust(width) for part in parts).rstrip()
        for parts in zip(*filled, strict=True)
    ]


def clean_lines(text: str) -> str:
    """`clean` that keeps line breaks."""
    return "\n".join(map(clean, text.split("\n")))


def _wrap(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, width, drop_whitespace=False) or [""]


def compact(value: Any) -> str:
    """A value as one line of JSON."""
    return clean(json.dumps(value, ensure_ascii=False))


def marked(pieces: Iterable[tuple[str, float]]) -> str:
    """Text with each learned stretch between « and »."""
    stretches = itertools.groupby(pieces, key=lambda piece: piece[1] > 0)
    joined = ((learned, "".join(text for text, _ in stretch)) for learned, stretch in stretches)
    return "".join(f"«{text}»" if learned else text for learned, text in joined)


class Watcher:
    """Shows the events of a run as they come.

    Args:
        as_json: Each event as a line of JSON instead.
        brief: Only progress, evaluations, warnings and the end.
    """

    def __init__(self, *, as_json: bool = False, brief: bool = False) -> None:
        self._as_json, self._brief = as_json, brief
        self._total: int | None = None
        self._last_line = 0.0
        self._bar: Progress | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        if not self._as_json and sys.stdout.isatty():
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[figures]}", markup=False),
            )
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def on_event(self, event: Event | Mapping[str, Any]) -> None:
        """Show one event."""
        fields: dict[str, Any] = event.as_dict() if isinstance(event, Event) else dict(event)
        if self._as_json:
            sys.stdout.write(json.dumps(fields, ensure_ascii=False) + "\n")
            sys.stdout.flush()
            return
        if fields["type"] == "planned":
            self._total = fields.get("steps")
        if fields["type"] in ("step", "reference"):
            self._advance(fields)
        elif (text := describe(fields)) and not (self._brief and fields["type"] in QUIET):
            self.say(text)

    def title(self, text: str) -> None:
        """A heading; what was drawn for an earlier run is left alone."""
        self._task = None
        self.say(f"\n{text}")

    def side_by_side(self, title: str, names: Sequence[str], texts: Sequence[str]) -> None:
        """Texts in columns, above the bar."""
        self.say(f"> {title}")
        for part in columns(names, texts):
            self.say(part)

    def say(self, text: str) -> None:
        """A line or several, above the bar."""
        if self._bar is not None:
            self._bar.console.print(clean_lines(text), markup=False, highlight=False)
        else:
            sys.stdout.write(clean_lines(text) + "\n")
            sys.stdout.flush()

    def _advance(self, fields: Mapping[str, Any]) -> None:
        training = fields["type"] == "step"
        done = fields["step"] if training else fields["done"]
        total = self._total if training else fields["total"]
        figures = step_figures(fields) if training else ""
        title = "training" if training else "reference"
        if self._bar is not None:
            if self._task is None or self._bar.tasks[-1].description != title:
                self._task = self._bar.add_task(title, total=total, figures="")
            self._bar.update(self._task, completed=done, total=total, figures=figures)
            return
        now = fields.get("time", 0.0)
        if done == total or done == 1 or now - self._last_line >= SECONDS_BETWEEN_LINES:
            self._last_line = now
            of = f"/{total:,}" if total else ""
            line(f"{title} {done:,}{of}  {figures}".rstrip())


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
    """An event that is not a step, in a line or a few."""
    kind = fields["type"]
    if kind in ("notice", "warning"):
        return f"{kind}: {fields.get('text', '')}"
    if kind == "resumed":
        return f"resumed from step {fields['from_step']:,}"
    if kind == "evaluated":
        worse = fields.get("start_was_better") is True
        said = "best so far, but worse than before training" if worse else "best so far"
        best = f"  ({said})" if fields.get("best") is True else ""
        return (
            f"evaluated at step {fields['step']:,}: {_figures(fields.get('metrics', fields))}{best}"
        )
    if kind == "checkpoint":
        size = f", {format_bytes(fields['bytes'])}" if fields.get("bytes") else ""
        return f"checkpoint {fields['path']}{size}"
    if kind == "finished":
        return "\n".join(_finished(fields))
    if kind == "failed":
        return f"failed: {fields.get('what', '')}"
    if kind == "data":
        return "\n".join(_data(fields))
    if kind in ("started", "planned"):
        hidden = {"type", "time", "elapsed_s"}
        plain = {name: value for name, value in fields.items() if name not in hidden}
        chosen = fields.get("chosen") or {}
        reasons = [f"  {name}: {cell(value)}, {why}" for name, (value, why) in chosen.items()]
        return "\n".join([f"{kind}: {_figures(plain)}", *reasons])
    return ""


def _data(fields: Mapping[str, Any]) -> Iterable[str]:
    """What the rows of each part became."""
    for part in ("train", "eval"):
        report = fields.get(part)
        if isinstance(report, Mapping):
            rows = report.get("rows")
            counts = rows if isinstance(rows, Mapping) else {"rows": rows}
            shown = {name: count for name, count in counts.items() if count}
            totals = {name: report.get(name) for name in ("tokens", "supervised_tokens")}
            yield f"data ({part}): {_figures({**(report.get('mix') or {}), **shown, **totals})}"


def _finished(fields: Mapping[str, Any]) -> Iterable[str]:
    seconds = fields.get("seconds")
    took = f" in {format_duration(seconds)}" if seconds is not None else ""
    yield f"{fields.get('reason', 'finished')} at step {fields['step']:,}{took}"
    if fields.get("result"):
        yield f"result: {fields['result']}"


def _figures(values: Mapping[str, Any]) -> str:
    plain = (
        (name, value)
        for name, value in values.items()
        if value is not None and not isinstance(value, Mapping | list)
    )
    return "  ".join(f"{name} {_named(name, value)}" for name, value in plain)
