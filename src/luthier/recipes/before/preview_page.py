"""Rows as a page of their own: one HTML file without scripts, fonts or links to anywhere."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

STYLE = """
:root { color-scheme: light dark; --ink: #1d2430; --faint: #5d6673; --page: #fff; --line: #d9dee5;
  --learned: #d6f2df; --shared: #5b7fd1; --cut: #b3261e; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ee; --faint: #9aa4b2; --page: #14181f;
  --line: #323a46; --learned: #12462a; --shared: #8fb0ff; --cut: #ff8a80; } }
body { margin: 2rem auto; max-width: 60rem; padding: 0 1rem; background: var(--page);
  color: var(--ink); font: 1rem/1.5 system-ui, sans-serif; }
h1 { font-size: 1.3rem } h2 { font-size: 1rem; margin-top: 2rem } h3 { font-size: .9rem }
pre { white-space: pre-wrap; overflow-wrap: anywhere; border: 1px solid var(--line);
  border-radius: .4rem; padding: .8rem; font: .85rem/1.6 ui-monospace, monospace; }
.control { color: var(--faint) } .learned { background: var(--learned) }
.shared { border-bottom: 2px dotted var(--shared) }
.cut { color: var(--cut); text-decoration: line-through }
p, li { color: var(--faint) }
"""
LEGEND = (
    '<p><span class="learned">carries loss</span> · <span class="control">control tokens</span> · '
    '<span class="shared">computed once, shared with an earlier sequence</span> · '
    '<span class="cut">taken by truncation</span></p>'
)


def page(rows: Sequence[Mapping[str, Any]], *, title: str) -> str:
    """HTML of rows as `luthier.recipes.before.preview` gives them; every text of a row is escaped."""
    body = "\n".join(_row(one) for one in rows)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>\n"
        f"<body><h1>{escape(title)}</h1>{LEGEND}\n{body}\n</body></html>\n"
    )


def _row(shown: Mapping[str, Any]) -> str:
    head = f"<h2>{escape(shown['row'])}</h2>"
    if "bad" in shown:
        return f"{head}<p>cannot be used: {escape(shown['bad'])}</p>"
    said = [
        *shown.get("notices", ()),
        *([f"dropped: {shown['dropped']}"] if shown["dropped"] else []),
    ]
    notes = "".join(f"<li>{escape(text)}</li>" for text in said)
    parts = [head, f"<ul>{notes}</ul>" if notes else ""]
    for place, pieces in enumerate(shown["sequences"]):
        name = f"{shown['names'][place]}: " if shown["names"] else ""
        learned = shown["learned"][place] if shown["learned"] else 0
        figures = f"{name}{shown['tokens'][place]} tokens, {learned} learned"
        if shown["shared"][place]:
            figures += f", {shown['shared'][place]} shared"
        spans = "".join(_piece(piece) for piece in pieces)
        parts.append(f"<h3>{escape(figures)}</h3><pre>{spans}</pre>")
    return "\n".join(parts)


def _piece(piece: Mapping[str, Any]) -> str:
    names = [name for name in ("shared", "cut") if piece[name]]
    names += ["learned"] if piece["weight"] > 0 and not piece["cut"] else []
    names += ["control"] if piece["kind"] in ("control", "bos", "eos") else []
    weight = f' title="weight {piece["weight"]:g}"' if piece["weight"] not in (0, 1) else ""
    return f'<span class="{" ".join(names)}"{weight}>{escape(piece["text"])}</span>'
