"""The filters and tests of chat templates: those that templates use, each measured before it works."""

import functools
import json
import re
from collections.abc import Callable, Iterable
from typing import Any

import jinja2
from jinja2.filters import FILTERS, sync_do_slice
from jinja2.tests import TESTS

from luthier.data.rendering.values import (
    LimitReached,
    compared,
    listed,
    made,
    measured,
    tick,
    write,
    written_length,
)

_AS_THEY_ARE = (
    "attr", "count", "d", "default", "first", "float", "items", "last", "length", "map", "reject",
    "rejectattr", "safe", "select", "selectattr",
)  # fmt: skip
_OF_TEXT = ("capitalize", "lower", "title", "trim", "truncate", "upper", "wordcount")
_ESCAPING = ("e", "escape", "forceescape", "urlencode")
_OF_ALL = ("dictsort", "groupby", "max", "min", "reverse", "sort", "unique")
_COMPARING = (
    "eq", "equalto", "==", "ne", "!=", "lt", "lessthan", "<", "le", "<=", "gt", "greaterthan", ">",
    "ge", ">=", "in", "divisibleby", "even", "odd",
)  # fmt: skip
_MOST_PARTS = 100_000
_MOST_DIGITS = 30
_LINE, _WORD = re.compile(r"\n|\r"), re.compile(r"\S+")


def filters() -> dict[str, object]:
    """The filters by name."""
    found: dict[str, Any] = {name: FILTERS[name] for name in _AS_THEY_ARE}
    found |= {name: _before(FILTERS[name], _text) for name in _OF_TEXT}
    found |= {name: _before(FILTERS[name], _escaped) for name in _ESCAPING}
    found |= {name: _before(FILTERS[name], _all) for name in _OF_ALL}
    return found | {
        "abs": _before(FILTERS["abs"], compared),
        "batch": _batch,
        "indent": _indent,
        "int": _before(FILTERS["int"], _digits),
        "join": _join,
        "list": _list,
        "replace": _replace,
        "round": _round,
        "slice": _slice,
        "string": write,
        "sum": _sum,
        "tojson": _tojson,
        "_joined": _joined,
        "_compared": compared,
    }


def tests() -> dict[str, Any]:
    """The tests by name."""
    known: dict[str, Any] = dict(TESTS)
    return known | {name: _comparing(known[name]) for name in _COMPARING}


def _before(
    inner: Callable[..., object], look: Callable[[object], object]
) -> Callable[..., object]:
    place = 1 if hasattr(inner, "jinja_pass_arg") else 0

    @functools.wraps(inner)
    def call(*args: object, **kwargs: object) -> object:
        if len(args) > place:
            kept = look(args[place])
            args = args if kept is None else (*args[:place], kept, *args[place + 1 :])
        return inner(*args, **kwargs)

    return call


def _comparing(inner: Callable[..., object]) -> Callable[..., object]:
    @functools.wraps(inner)
    def call(*args: object) -> object:
        tick()
        for value in args:
            compared(value)
        return inner(*args)

    return call


def _text(value: object) -> object:
    return value if isinstance(value, jinja2.Undefined) else _measured(write(value), 1)


def _escaped(value: object) -> object:
    return _measured(write(value), 9)


def _measured(text: str, times: int) -> str:
    made(times * len(text))
    return text


def _all(value: Any) -> Any:
    if isinstance(value, jinja2.Undefined):
        return value
    if not isinstance(value, str | dict):
        value = listed(value)
    written_length(value)
    made(len(value))
    return value


def _digits(value: object) -> object:
    if isinstance(value, str) and len(value) > 1000:
        raise LimitReached(f"it reads a number of {len(value):,} characters")
    return value


def _parts(value: Any) -> int:
    if not isinstance(value, int) or not 0 < value <= _MOST_PARTS:
        raise LimitReached(f"it cuts into parts of or by {str(value)[:30]}")
    tick(value)
    return value


def _slice(value: Any, slices: int, fill_with: Any = None) -> list[Any]:
    return listed(sync_do_slice(listed(value), _parts(slices), fill_with))


def _batch(value: Any, linecount: int, fill_with: Any = None) -> list[Any]:
    return listed(FILTERS["batch"](listed(value), _parts(linecount), fill_with))


def _list(value: Any) -> list[Any]:
    found = listed(value)
    made(len(found))
    return found


def _round(value: object, precision: int = 0, method: str = "common") -> object:
    if not isinstance(precision, int) or abs(precision) > _MOST_DIGITS:
        raise LimitReached(f"it rounds to {str(precision)[:30]} digits")
    return FILTERS["round"](compared(value), precision, method)


@jinja2.pass_environment
def _sum(environment: Any, iterable: Any, attribute: Any = None, start: Any = 0) -> Any:
    if isinstance(start, bool) or not isinstance(start, int | float):
        raise jinja2.exceptions.SecurityError("sum adds numbers only")
    return FILTERS["sum"](environment, listed(iterable), attribute, start)


def _indent(value: Any, width: Any = 4, *args: Any, **kwargs: Any) -> Any:
    size = len(width) if isinstance(width, str) else abs(int(width))
    text = write(value)
    made(len(text) + (text.count("\n") + 1) * size)
    return FILTERS["indent"](text, width, *args, **kwargs)


@jinja2.pass_eval_context
def _join(context: Any, value: Any, d: Any = "", attribute: Any = None) -> Any:
    return FILTERS["join"](context, parts(write(d), value), d, attribute)


def parts(separator: str, values: Iterable[Any]) -> list[Any]:
    """What is about to be joined, its text measured."""
    items = listed(values)
    lengths = (len(i) if isinstance(i, str) else written_length(i) for i in items)
    made(len(separator) * len(items) + sum(lengths))
    return items


def concat(pieces: Iterable[str]) -> str:
    """The text of pieces, measured as they come."""
    kept: list[str] = []
    length = 0
    for piece in pieces:
        length += len(piece)
        measured(length)
        kept.append(piece)
    made(length)
    return "".join(kept)


def _joined(*values: object) -> str:
    """The operator `~`."""
    return concat(map(write, values))


def measure_replace(text: str, old: str, new: str) -> None:
    """Refuse a replacement that makes too much."""
    times = text.count(old) if old else len(text) + 1
    made(len(text) + times * len(new))


def _replace(value: object, old: object, new: object, count: int | None = None) -> str:
    text, old, new = write(value), write(old), write(new)
    measure_replace(text, old, new)
    return text.replace(old, new, -1 if count is None else count)


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Without HTML escapes, as the templates expect."""
    if isinstance(indent, int) and not 0 <= indent <= 16:
        raise LimitReached(f"it indents JSON by {indent}")
    if isinstance(value, jinja2.Undefined):
        raise jinja2.exceptions.UndefinedError("tojson of a variable that is not defined")
    made((6 if ensure_ascii else 2) * written_length(value))
    text = json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )
    measured(len(text))
    return text


def measure_split(text: str, name: str, arguments: tuple[object, ...]) -> None:
    """Count the pieces of a text that is about to be split."""
    separator = arguments[0] if arguments else None
    if name == "splitlines":
        tick(sum(1 for _ in _LINE.finditer(text)))
    elif isinstance(separator, str) and separator:
        tick(text.count(separator))
    else:
        tick(sum(1 for _ in _WORD.finditer(text)))
