"""Lines, tables and columns: plain text, a table on a terminal, JSON where it was asked for."""

import itertools
import json
import re
import shutil
import sys
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from luthier.units import format_bytes

_CONTROL = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_TURNS = re.compile(r"[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")


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


def dump(value: object) -> None:
    """A value as JSON, for programs."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, indent=2, default=str) + "\n")


def cell(value: object) -> str:
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


def _named(name: str, value: object) -> str:
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
    total = shutil.get_terminal_size((80, 24)).columns
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


def compact(value: object) -> str:
    """A value as one line of JSON."""
    return clean(json.dumps(value, ensure_ascii=False))


def marked(pieces: Iterable[tuple[str, float]]) -> str:
    """Text with each learned stretch between « and »."""
    stretches = itertools.groupby(pieces, key=lambda piece: piece[1] > 0)
    joined = ((learned, "".join(text for text, _ in stretch)) for learned, stretch in stretches)
    return "".join(f"«{text}»" if learned else text for learned, text in joined)
