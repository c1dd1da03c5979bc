"""JSON that others wrote, read within limits; the only place that calls the standard parser.

That parser lets much through: NaN, numbers beyond a float or of a million digits, a key given twice,
half a surrogate pair; and nesting ends in a RecursionError.  Here each is a `ValueError` with one
sentence, and the time taken is linear in the text.
"""

import json
import math
import os
import re
import stat
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from luthier.errors import LuthierError
from luthier.limits import JSON_DEPTH, JSON_DIGITS, JSON_KEYS, MODEL_JSON_BYTES
from luthier.units import format_bytes

_SURROGATE = re.compile(r"\\u[dD]")


class RefusedJsonError(ValueError):
    """Well-formed by the grammar of the standard parser, and refused all the same."""


class TooMuchJsonError(RefusedJsonError):
    """More keys or levels than the limit."""


class JsonDecoder:
    """The parser with its limits.

    Args:
        max_keys: Keys of one object.
        same_twice: Take a key that is given twice with the same value; otherwise it is refused.
        ours: Take NaN and half a surrogate pair, which our own processes say to each other.
    """

    def __init__(
        self, *, max_keys: int = JSON_KEYS, same_twice: bool = False, ours: bool = False
    ) -> None:
        self._max_keys, self._same_twice, self._ours = max_keys, same_twice, ours
        self._decoder = json.JSONDecoder(
            object_pairs_hook=self._object,
            parse_int=_int,
            parse_float=_float,
            parse_constant=None if ours else _constant,
        )

    def decode(self, text: str) -> Any:
        """The value of one JSON text.

        Raises:
            json.JSONDecodeError: It is not JSON; with the position.
            RefusedJsonError: It is refused all the same; `TooMuchJsonError` for a limit.
        """
        try:
            value = self._decoder.decode(text)
        except RecursionError as error:
            raise _too_deep() from error
        check(text, value, halves=self._ours)
        return value

    def raw_decode(self, text: str, start: int) -> tuple[object, int]:
        """The value that begins at a position, and where it ends; `check` is left to the caller."""
        try:
            value, end = self._decoder.raw_decode(text, start)
        except RecursionError as error:
            raise _too_deep() from error
        return value, end

    def _object(self, pairs: list[tuple[str, object]]) -> dict[str, object]:
        if len(pairs) > self._max_keys:
            raise TooMuchJsonError(
                f"an object has {len(pairs):,} keys; {self._max_keys:,} are allowed"
            )
        fields = dict(pairs)
        if len(fields) != len(pairs):
            counts = Counter(name for name, _ in pairs)
            twice = [name for name, count in counts.items() if count > 1]
            same = self._same_twice and all(
                value == fields[name] for name, value in pairs if counts[name] > 1
            )
            if not same:
                shown = ", ".join(repr(name[:60]) for name in twice[:5])
                raise RefusedJsonError(f"the key {shown} is given twice in one object")
        return fields


def _int(text: str) -> int:
    if len(text) > JSON_DIGITS:
        raise RefusedJsonError(f"a number has {len(text):,} digits; {JSON_DIGITS} are allowed")
    return int(text)


def _float(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise RefusedJsonError(f"the number {text[:40]} is beyond what a float holds")
    return number


def _constant(text: str) -> NoReturn:
    raise RefusedJsonError(f"{text} is not JSON: only finite numbers are")


def _too_deep() -> TooMuchJsonError:
    return TooMuchJsonError(f"JSON nested more than {JSON_DEPTH} deep")


def check(text: str, value: object, *, halves: bool = False) -> None:
    """What the parser cannot be told to refuse; both tests are cheap for ordinary text."""
    if text.count("[") + text.count("{") > JSON_DEPTH:
        _check_depth(value)
    if not halves and _SURROGATE.search(text):
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            half = f"\\u{ord(error.object[error.start]):04x}"
            raise RefusedJsonError(
                f"{half} is half of a surrogate pair, not a character"
            ) from error


def _check_depth(value: object) -> None:
    level = [value]
    for _ in range(JSON_DEPTH + 1):
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return
    raise _too_deep()


_STRICT = JsonDecoder()
_LENIENT = JsonDecoder(same_twice=True)
_OURS = JsonDecoder(ours=True)


def decode(text: str | bytes, *, same_twice: bool = False) -> Any:
    """The value of a JSON text, or of bytes in UTF-8 with or without a byte-order mark.

    Raises:
        ValueError: It is not UTF-8, not JSON, or beyond a limit; the message is one sentence.
    """
    if isinstance(text, bytes):
        text = text.decode("utf-8-sig")
    return (_LENIENT if same_twice else _STRICT).decode(text)


def decode_ours(text: str | bytes) -> Any:
    """The value of a line that a process of ours wrote, which a kill or another hand may have torn.

    Raises:
        ValueError: It is not UTF-8, not JSON, or beyond a limit.
    """
    if isinstance(text, bytes):
        text = text.decode("utf-8")
    return _OURS.decode(text)


def read_bytes(path: Path, max_bytes: int) -> bytes:
    """The content of a plain file; a pipe or device is never waited for.

    Raises:
        OSError: It cannot be read.
        ValueError: It is no plain file, or longer than `max_bytes`.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:
        state = os.fstat(descriptor)
        if not stat.S_ISREG(state.st_mode):
            raise ValueError("it is not a plain file")
        if state.st_size > max_bytes:
            raise ValueError(
                f"it is {format_bytes(state.st_size)} long; at most {format_bytes(max_bytes)} are read"
            )
        raw = file.read(min(state.st_size, max_bytes) + 1)  # no more room is taken than it needs
    if len(raw) > state.st_size:
        raise ValueError("it grew while it was read")
    return raw


def read_object(
    path: Path,
    refuse: Callable[[str], LuthierError],
    *,
    max_bytes: int = MODEL_JSON_BYTES,
    same_twice: bool = False,
) -> dict[str, object]:
    """The JSON object in a file.

    Args:
        refuse: Makes the error of a file that cannot be used, from the reason.

    Raises:
        FileNotFoundError: There is none.
        LuthierError: What `refuse` makes.
    """
    try:
        value = decode(read_bytes(path, max_bytes), same_twice=same_twice)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise refuse(f"it cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise refuse(f"it is not UTF-8 at byte {error.start:,}") from error
    except ValueError as error:
        raise refuse(why_not(error)) from error
    if not isinstance(value, dict):
        raise refuse(f"it is not a JSON object but {kind_of(value)}")
    return value


def why_not(error: ValueError) -> str:
    """The reason in a sentence about a file that was not read."""
    if isinstance(error, json.JSONDecodeError):
        return f"it is not JSON: {error.msg} at line {error.lineno} column {error.colno}"
    return str(error)


def kind_of(value: object) -> str:
    """The JSON kind of a value, with its article, as errors name it."""
    kinds = {dict: "an object", list: "a list", str: "a string", bool: "a boolean"}
    kinds |= {int: "a number", float: "a number", type(None): "null"}
    return kinds.get(type(value), f"a {type(value).__name__}")


def shown(value: Any, length: int = 60) -> str:
    """A value as a message names it, cut where it is long."""
    text = repr(value)
    return text if len(text) <= length else text[: length - 3] + "..."
