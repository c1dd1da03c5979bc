"""JSON bodies, read strictly: what the standard parser lets through is refused."""

import json
import re
from collections import Counter
from typing import NoReturn

from luthier.limits import BODY_DEPTH, BODY_DIGITS, BODY_KEYS
from luthier.service.http.door.envelope import ApiError

_QUOTED = re.compile(rb'"(?:[^"\\]|\\.)*(?:"|\\?\Z)', re.DOTALL)
"""A text, or what is left of a body whose last text has no end: every match is one pass."""

_BRACKETS = re.compile(rb"[\[\]{}]")


def _refuse(message: str) -> ApiError:
    return ApiError(400, message, code="invalid_json", why="bodies are strict JSON in UTF-8")


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        counts = Counter(name for name, _ in pairs)
        twice = next(name for name, count in counts.items() if count > 1)
        raise _refuse(f"the key {twice[:60]!r} is given twice in one object")
    return fields


def _constant(text: str) -> NoReturn:
    raise _refuse(f"{text} is not JSON: only finite numbers are")


def _int(text: str) -> int:
    if len(text) > BODY_DIGITS:
        raise _refuse(f"a number of {len(text):,} digits; {BODY_DIGITS} are allowed")
    return int(text)


def _float(text: str) -> float:
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise _refuse(f"the number {text[:40]} is beyond what a float holds")
    return number


_DECODER = json.JSONDecoder(
    object_pairs_hook=_object, parse_constant=_constant, parse_int=_int, parse_float=_float
)


def decode(body: bytes) -> object:
    """The value of a body.

    Raises:
        ApiError: 400: not JSON, not UTF-8, a key given twice, nested too deep, NaN, half a
            surrogate pair, too many keys.
    """
    if body.count(b"[") + body.count(b"{") > BODY_DEPTH and _depth(body) > BODY_DEPTH:
        raise _refuse(f"JSON nested more than {BODY_DEPTH} deep")
    if body.count(b":") > BODY_KEYS and _QUOTED.sub(b"", body).count(b":") > BODY_KEYS:
        raise _refuse(f"JSON with more than {BODY_KEYS:,} keys")
    try:
        value = _DECODER.decode(body.decode())
    except UnicodeDecodeError as error:
        raise _refuse(f"the body is not UTF-8 at byte {error.start:,}") from error
    except json.JSONDecodeError as error:
        raise _refuse(f"the body is not JSON: {error.msg} at character {error.pos:,}") from error
    if b"\\u" in body:
        _check_characters(value)
    return value


def _check_characters(value: object) -> None:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        half = f"\\u{ord(error.object[error.start]):04x}"
        raise _refuse(f"{half} is half of a surrogate pair, not a character") from error


def _depth(body: bytes) -> int:
    deepest = depth = 0
    for bracket in _BRACKETS.findall(_QUOTED.sub(b"", body)):
        depth += 1 if bracket in b"[{" else -1
        deepest = max(deepest, depth)
    return deepest
