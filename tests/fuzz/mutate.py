"""Small and large harm to files, from a seed: the same seed, the same bytes."""

import copy
import json
import random
from typing import Any

TEXTS = [
    "",
    "x",
    "\x00",
    "\u202e",
    "😀",
    "a" * 300,
    "../..",
    "/etc/passwd",
    "(a+)+b",
    "1e400",
    "{{ 1 }}",
]
NUMBERS = [0, 1, -1, 2**31, 2**63, 2**64, 10**200, 1e308, -1e308, 0.5, 5e-324]
VALUES: list[Any] = [None, True, False, [], {}, [1, 2], {"a": 1}, [[]], *TEXTS, *NUMBERS]
RAW = [
    b"NaN",
    b"1e400",
    b"9" * 5_000,
    b'"\\ud800"',
    b"[" * 2_000,
    b'{"a":1,"a":2}',
    b"\xff",
    b"\xef\xbb\xbf{}",
]


def harmed(value: Any, chance: random.Random) -> bytes:
    """A JSON value with one to three changes, as bytes; now and then the bytes are changed too."""
    value = copy.deepcopy(value)
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        value = _change(value, chance)
    raw = json.dumps(value, ensure_ascii=chance.random() < 0.5).encode("utf-8", "replace")
    if chance.random() < 0.3:
        raw = scattered(raw, chance)
    return raw


def scattered(raw: bytes, chance: random.Random) -> bytes:
    """Bytes with a piece replaced, cut, doubled or put in."""
    at = chance.randrange(len(raw) + 1)
    size = chance.choice((0, 1, 1, 4, 30))
    kind = chance.randrange(4)
    if kind == 0:
        return raw[:at] + chance.choice(RAW) + raw[at + size :]
    if kind == 1:
        return raw[:at]
    if kind == 2:
        return raw[: at + size] + raw[at:]
    return raw[:at] + chance.randbytes(size) + raw[at + size :]


def _change(value: Any, chance: random.Random) -> Any:
    places = list(_places(value))
    if not places or chance.random() < 0.02:
        return chance.choice(VALUES)
    holder, key = chance.choice(places)
    kind = chance.randrange(6)
    if kind == 0:
        del holder[key]
    elif kind == 1 and isinstance(holder, dict):
        holder[chance.choice([*TEXTS, *map(str, holder)])] = chance.choice(VALUES)
    elif kind == 2 and isinstance(holder[key], int | float):
        holder[key] = holder[key] * chance.choice((-1, 2, 1000, 0.5))
    elif kind == 3:
        other, name = chance.choice(places)
        if name in other if isinstance(other, dict) else name < len(other):
            holder[key] = copy.deepcopy(other[name])
    else:
        holder[key] = chance.choice(VALUES)
    return value


def _places(value: Any, depth: int = 0) -> Any:
    if depth > 6:
        return
    keys = (
        list(value)
        if isinstance(value, dict)
        else range(min(len(value), 40))
        if isinstance(value, list)
        else ()
    )
    for key in keys:
        yield value, key
        yield from _places(value[key], depth + 1)
