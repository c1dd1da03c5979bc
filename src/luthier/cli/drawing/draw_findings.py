"""The data doctor's report as people read it: a summary, then findings, the worst first."""

import shutil
import sys
import unicodedata
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from luthier.cli.drawing import next_steps
from luthier.cli.drawing.folding import columns_of, folded
from luthier.cli.drawing.render import clean, dump, line
from luthier.data.doctor.spoken import spoken, words

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

_COLOURS = {"error": "\x1b[1;31m", "warning": "\x1b[1;33m", "note": "\x1b[1;36m"}
_BAR = 24
_SHOWN_ROWS = 3


class Counting:
    """A bar of rows on a terminal's stderr; silent elsewhere."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._bar: Progress | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import (
                BarColumn,
                MofNCompleteColumn,
                Progress,
                TextColumn,
                TimeRemainingColumn,
            )

            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                console=Console(stderr=True),
                transient=True,
            )
            self._task = self._bar.add_task(self._title, total=None)
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, done: int, total: int | None) -> None:
        """So many rows are done."""
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=done, total=total)


def report(found: Mapping[str, Any], *, as_json: bool, lang: str = "en") -> None:
    """The whole report, its sentences in a language."""
    found = spoken(found, lang)
    if as_json:
        dump(found)
        return
    for text in (
        *_summary(found, words(lang)),
        *_figures(found),
        *_findings(found["findings"], words(lang)),
    ):
        line(text) if "\x1b" not in text else sys.stdout.write(text + "\n")


def fixed(found: Mapping[str, Any], *, as_json: bool, model: str = "starter") -> None:
    """What `luthier data fix` did, and what to do with it."""
    if as_json:
        dump(found)
        return
    line(f"{found['output']}: {found['written']:,} of {found['rows']:,} rows")
    for code, count in found["done"].items():
        line(f"  {count:>7,}  {code}")
    line(f"{found['changes']} has a line for each" if found["done"] else "nothing had to be done")
    next_steps.show(next_steps.after_fix(found["output"], model=model))


def _summary(found: Mapping[str, Any], said: Mapping[str, str]) -> Iterator[str]:
    for file in found["files"]:
        formats = ", ".join(f"{name} {count:,}" for name, count in file["formats"].items())
        encoding = "" if file["encoding"] == "utf-8" else f", read as {file['encoding']}"
        yield f"{file['path']}: {file['rows']:,} rows ({formats or 'no known format'}{encoding})"
        if file["looked_with"]:
            columns = ", ".join(f"{ours}: {theirs}" for ours, theirs in file["looked_with"].items())
            yield f"    looked at as if read with columns: {{{columns}}}; a run needs it said"
    bad = found["bad"]["count"]
    figures = {name: found[name] for name in ("rows", "used", "objective")}
    yield said["rows"].format(**figures, bad=bad)
    for reason, count in list(found["bad"]["reasons"].items())[:5]:
        yield f"    {count:,} x {reason}"
    counts = found["severities"]
    yield ", ".join(f"{counts[name]} {name}{'' if counts[name] == 1 else 's'}" for name in counts)
    for notice in found["notices"]:
        yield f"notice: {notice}"


def _figures(found: Mapping[str, Any]) -> Iterator[str]:
    tokens = found["tokens"]
    if not tokens:
        return
    names = ("p5", "p25", "p50", "p75", "p95", "p99", "max", "sum")
    yield ""
    yield f"{'tokens':<10}" + "".join(f"{name:>11}" for name in names) + f"   ({found['model']})"
    for part in ("system", "prompt", "answer", "total", "chosen", "rejected"):
        if tokens.get(part, {}).get("sum"):
            yield f"{part:<10}" + "".join(f"{tokens[part][name]:>11,.0f}" for name in names)
    yield ""
    yield f"{'seq_length':<11}{'rows cut':>9}{'':>8}{'tokens over it':>15}{'':>8}{'step cost':>10}"
    for limit, cut in found["cuts"].items():
        yield (
            f"{int(limit):<11,}{cut['rows']:>9,}{cut['row_share']:>8.1%}{cut['tokens']:>15,}"
            f"{cut['share']:>8.1%}{cut['step_cost']:>10.0%}"
        )
    yield ""
    yield from _histogram(found["histogram"])
    yield (
        f"padding to the longest of {found['padding_batch']} would waste "
        f"{found['padding_ratio']:.0%} (nothing is padded here); shared prefixes save "
        f"{found['sharing_ratio']:.0%} in steps of {found['sharing_step']}"
    )
    for name, count in found["sampled"].items():
        yield f"{name}: from {count:,} of the {found['rows']:,} rows"


def _histogram(bins: list[Mapping[str, int]]) -> Iterator[str]:
    most = max((one["rows"] for one in bins), default=1) or 1
    for one in bins:
        bar = "█" * max(round(_BAR * one["rows"] / most), int(one["rows"] > 0))
        yield f"  up to {one['up_to']:>7,}  {bar:<{_BAR}} {one['rows']:,}"


def _findings(findings: list[Mapping[str, Any]], said: Mapping[str, str]) -> Iterator[str]:
    if not findings:
        yield ""
        yield said["nothing"]
    width = min(shutil.get_terminal_size((80, 24)).columns, 120)
    colour = sys.stdout.isatty()
    for one in findings:
        severity, code = one["severity"], one["code"]
        yield ""
        head = clean(f"{one['title']}: {one['detail']}")
        start, stop = (_COLOURS[severity], "\x1b[0m") if colour else ("", "")
        yield f"{start}{said[f'severity.{severity}']}{stop} {code}  {head}"
        for name in ("why", "fix"):
            yield from _said(clean(one[name]), width, f"  {said[name]}  ")
        for row in one["rows"][:_SHOWN_ROWS]:
            where = f"{Path(row['file']).name} line {row['line']}" if row["line"] else row["file"]
            yield _fitting(f"       {where}: {' '.join(clean(row['says']).split())}", width)


def _said(text: str, width: int, head: str) -> Iterator[str]:
    """A paragraph; a flag that is to be pasted stays on a line of its own."""
    if text.startswith("--columns "):
        flag, _, text = text.partition("; ")
        yield head + flag
        head = " " * columns_of(head)
    if text:
        yield from folded(text, width, head=head)


def _fitting(text: str, width: int) -> str:
    """A line cut to the columns of the terminal, where East Asian characters take two."""
    columns = 0
    for place, character in enumerate(text):
        columns += 2 if unicodedata.east_asian_width(character) in "WF" else 1
        if columns > width - 1:
            return text[:place] + "…"
    return text
