"""Text in lines of so many columns, where East Asian characters take two and break anywhere."""

import re
import unicodedata
from collections.abc import Iterator

_PIECE = re.compile(
    r"\s+|[\u2e80-\uffef][\u3001\u3002\uff01\uff09\uff0c\uff1a\uff1b\uff1f]*|[^\s\u2e80-\uffef]+"
)
"""A stretch of white space, one East Asian character with the marks that end it, or a word."""


def columns_of(text: str) -> int:
    """Columns of a terminal that a text takes."""
    return sum(2 if unicodedata.east_asian_width(one) in "WF" else 1 for one in text)


def folded(text: str, width: int, *, head: str = "", inset: str | None = None) -> Iterator[str]:
    """The lines of a paragraph; a word longer than a line, such as a path, is never broken.

    Args:
        width: Columns of a line, those of `head` and `inset` among them.
        head: Before the first line.
        inset: Before the others; as wide as `head` if not given.
    """
    inset = " " * columns_of(head) if inset is None else inset
    line, empty = head, True
    for piece in _PIECE.findall(text):
        if piece.isspace():
            line += "" if empty else " "
            continue
        if not empty and columns_of(line + piece) > width:
            yield line.rstrip()
            line = inset
        line, empty = line + piece, False
    yield line.rstrip()
