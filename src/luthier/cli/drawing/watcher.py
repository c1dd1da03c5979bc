"""A run as it goes on: a live bar on a terminal, plain lines elsewhere, JSON where it was asked for."""

import json
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

from luthier.cli.drawing.render import clean_lines, columns, line
from luthier.events import Event
from luthier.events.sentences import describe, step_figures, wrapped

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

SECONDS_BETWEEN_LINES = 1.0
QUIET = {"started", "notice", "planned", "plan_checked", "data", "checkpoint", "finished"}


class RunDisplay:
    """Shows the events of a run as they come.

    Args:
        as_json: Each event as a line of JSON instead.
        brief: Only progress, evaluations, warnings and the end.
    """

    def __init__(self, *, as_json: bool = False, brief: bool = False) -> None:
        self._as_json, self._brief = as_json, brief
        self._total: int | None = None
        self._last_line = 0.0
        self._evaluated: int | None = None
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
        if fields["type"] == "evaluated":
            self._evaluated = fields.get("step")
        if fields["type"] in ("step", "reference"):
            self._advance(fields)
        elif self._is_told(fields) and (text := describe(fields)):
            self.say(text)

    def _is_told(self, fields: Mapping[str, Any]) -> bool:
        """A checkpoint behind an evaluation of the same step would double the log."""
        if fields["type"] == "checkpoint" and fields.get("step") == self._evaluated:
            return False
        return not (self._brief and fields["type"] in QUIET)

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
        shown = wrapped(clean_lines(text))
        if self._bar is not None:
            self._bar.console.print(shown, markup=False, highlight=False, soft_wrap=True)
        else:
            sys.stdout.write(shown + "\n")
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
