"""Results that show themselves in a notebook: tables of names and values, as HTML."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any


def html_table(title: str, rows: Iterable[Mapping[str, Any]], *, below: str = "") -> str:
    """A heading and a table; every text is escaped.

    Args:
        rows: Of the same keys, which become the heads of columns.
        below: A sentence under it.
    """
    listed = list(rows)
    head = "".join(f"<th>{escape(str(name))}</th>" for name in (listed[0] if listed else ()))
    body = "".join(
        f"<tr>{''.join(f'<td>{escape(_text(value))}</td>' for value in row.values())}</tr>"
        for row in listed
    )
    foot = f"<p>{escape(below)}</p>" if below else ""
    return (
        f"<h4>{escape(title)}</h4>"
        f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{foot}"
    )


def pairs(values: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """Names and values as rows."""
    return [{"": name, "value": value} for name, value in values.items()]


def _text(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
