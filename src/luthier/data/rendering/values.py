"""What a template's values come to when they are written out, compared or collected.

A list that holds itself twice, thirty times over, is small in memory and endless as text.  Every
filter, test and operator that walks a value, or makes a new one, goes through a measure here first.
"""

import time
from collections.abc import Iterable, Iterator, Mapping
from contextvars import ContextVar
from typing import Any

import jinja2

from luthier.limits import TEMPLATE_BITS, TEMPLATE_SECONDS, TEMPLATE_TEXT, TEMPLATE_WORK

_LOOK_S = 1 << 8  # units of work between two looks at the clock


class LimitReached(jinja2.exceptions.TemplateError):
    """The template asked for more work, text or time than it may have."""


class Meter:
    """What one rendering has used up."""

    def __init__(self) -> None:
        self.work = self.made = 0
        self.deadline = time.monotonic() + TEMPLATE_SECONDS

    def tick(self, amount: int = 1) -> None:
        """Count units of work: turns of a loop, elements looked at, calls."""
        before, self.work = self.work, self.work + amount
        if self.work > TEMPLATE_WORK:
            raise LimitReached(f"it takes more than {TEMPLATE_WORK:,} loop turns and calls")
        if amount >= _LOOK_S or before // _LOOK_S != self.work // _LOOK_S:
            self.look()

    def look(self) -> None:
        """Look at the clock."""
        if time.monotonic() > self.deadline:
            raise LimitReached(f"it takes more than {TEMPLATE_SECONDS} seconds")

    def make(self, length: int) -> None:
        """Count the characters or elements of a value that is made, each and all together."""
        measured(length)
        self.made += length
        if self.made > _ALL * TEMPLATE_TEXT:
            raise LimitReached(f"it makes texts of more than {_ALL * TEMPLATE_TEXT:,} characters")
        self.tick(1 + (length >> 12))


_ALL = 16  # times the longest text, over one rendering: what may be held at once is below it
METER: ContextVar[Meter | None] = ContextVar("METER", default=None)


def tick(amount: int = 1) -> None:
    """Count work of the rendering at hand, if there is one."""
    if (meter := METER.get()) is not None:
        meter.tick(amount)


def made(length: int) -> None:
    """Refuse a value of this many characters or elements before it is made."""
    if (meter := METER.get()) is not None:
        meter.make(length)
    else:
        measured(length)


def measured(length: int) -> None:
    """Refuse a single text that is too long."""
    if length > TEMPLATE_TEXT:
        raise LimitReached(f"it makes a text of more than {TEMPLATE_TEXT:,} characters")


def written_length(value: object) -> int:
    """Characters of a value as text, at least; a value within others counts once for each.

    Work is counted for every element, so that the count itself ends.
    """
    if isinstance(value, str):
        return len(value)
    if value is None or isinstance(value, bool | float):
        return 5
    if isinstance(value, int):
        return value.bit_length() // 3 + 2
    total = 0
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, str):
            total += len(item) + 4
        elif isinstance(item, Mapping):
            tick(len(item))
            waiting += item.keys()
            waiting += item.values()
        elif isinstance(item, list | tuple | set | frozenset):
            tick(len(item))
            waiting += item
        else:
            total += item.bit_length() // 3 + 4 if isinstance(item, int) else 24
        measured(total)
    return total


def write(value: object) -> str:
    """The text of a value, measured before it is made."""
    if isinstance(value, str):
        return value
    if isinstance(value, Iterable | int):
        made(written_length(value))
    text = str(value)
    if " at 0x" in text:  # a function or an object: its place in memory is nobody's business
        raise jinja2.exceptions.SecurityError(f"it writes out a {type(value).__name__}")
    return text


def compared(value: Any) -> Any:
    """A value that is about to be compared, hashed or looked for, its elements counted."""
    kind = type(value)
    if kind is str:
        tick(len(value) >> 12)
    elif kind is int:
        bounded_number(value)
    elif isinstance(value, Iterable) and not isinstance(value, jinja2.Undefined):
        written_length(value)
    return value


def bounded_number(value: int) -> None:
    """Refuse a number that takes long to compute with."""
    if value.bit_length() > TEMPLATE_BITS:
        raise LimitReached(f"it computes with a number of more than {TEMPLATE_BITS} bits")


def listed(values: Iterable[Any]) -> list[Any]:
    """The elements of something, each counted as it comes."""
    found: list[Any] = []
    if isinstance(values, str | bytes | list | tuple | dict):
        tick(len(values))
        return list(values)
    for item in values:
        tick()
        found.append(item)
    return found


class Counted:
    """An iterable whose every element costs one unit of work."""

    def __init__(self, inner: Iterable[object]) -> None:
        self._inner = inner

    def __iter__(self) -> Iterator[Any]:
        for item in self._inner:
            tick()
            yield item

    def __len__(self) -> int:
        return len(self._inner)  # type: ignore[arg-type]  # TypeError where the inner has none, as Jinja expects
