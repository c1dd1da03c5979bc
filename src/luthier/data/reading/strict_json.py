"""JSON as training data needs it: strict, streamed, within limits.

The standard parser, made to refuse what it lets through: NaN and Infinity, numbers beyond a
float, a key given twice, half a surrogate pair, and nesting that would exhaust the stack.
"""

import json
import re
from collections.abc import Iterator
from typing import Any, TextIO

from luthier.bounded import JsonDecoder, RefusedJsonError, TooMuchJsonError, check, kind_of
from luthier.data.reading.files import MAX_LINE_CHARS
from luthier.data.types import BadRow, Origin, Row
from luthier.errors import LimitError, MalformedFileError
from luthier.limits import JSON_DEPTH, ROW_FIELDS
from luthier.units import MIB

MAX_REPORTED = 20
UNREADABLE = "file-unreadable"
"""The doctor's rule for lines that cannot be read."""

_CHUNK_CHARS = MIB
_SPACE = re.compile(r"[ \t\n\r]*")


_DECODER = JsonDecoder(max_keys=ROW_FIELDS)


def decode(text: str) -> Any:
    """The value of one JSON text.

    Raises:
        ValueError: Not JSON; `json.JSONDecodeError` with its position, or `RefusedJsonError`.
        LimitError: Nested deeper, or of more keys, than the limit.
    """
    try:
        return _DECODER.decode(text)
    except TooMuchJsonError as error:
        raise _too_much(error) from error


def _too_much(error: TooMuchJsonError) -> LimitError:
    return LimitError(
        str(error),
        why=f"a row has at most {ROW_FIELDS:,} keys in one object and {JSON_DEPTH} levels",
        fix="flatten the row",
    )


def line_too_long(name: str, line: int) -> LimitError:
    """The error for a line, record or element beyond the limit."""
    return LimitError(
        f"{name} line {line} is longer than {MAX_LINE_CHARS:,} characters",
        why="one row is read at a time, and this bounds the memory it takes",
        fix="split the row; if the file is one JSON value, write one row a line",
    )


def _row(value: object, origin: Origin) -> Row | BadRow:
    if isinstance(value, dict):
        return Row(value, origin)
    shown = json.dumps(value, ensure_ascii=False)
    shown = shown if len(shown) <= 40 else shown[:37] + "..."
    return BadRow(origin, f"the row is {kind_of(value)}, not an object: {shown}")


def json_rows(stream: TextIO, name: str, *, tolerant: bool = False) -> Iterator[Row | BadRow]:
    """Rows of a JSON array or of JSON lines, whichever the content is.

    A single object that is spread over lines is one row.

    Args:
        tolerant: A line that is not JSON is a `BadRow` of the kind `file-unreadable`.

    Raises:
        MalformedFileError: Not JSON; for JSON lines the first 20 bad lines together.
        LimitError: A line or element beyond `MAX_LINE_CHARS`, or nested too deep.
    """
    number, head = 0, ""
    while not head.strip():
        head = stream.readline(MAX_LINE_CHARS + 1)
        if not head:
            return
        number += 1
    if head.lstrip()[0] == "[":
        yield from _array(stream, head, number, name)
    else:
        yield from _lines(stream, head, number, name, tolerant=tolerant)


def _lines(
    stream: TextIO, head: str, number: int, name: str, *, tolerant: bool
) -> Iterator[Row | BadRow]:
    problems: list[str] = []
    line = head
    while line:
        if len(line) > MAX_LINE_CHARS:
            raise line_too_long(name, number)
        following = stream.readline(MAX_LINE_CHARS + 1)
        if text := line.strip():
            try:
                value = decode(text)
            except LimitError as error:
                raise LimitError(
                    f"{name} line {number}: {error.what}", why=error.why, fix=error.fix
                ) from error
            except ValueError as error:
                if line is head and _spread(error, text, following):
                    yield _single(stream, head + following, number, name)
                    return
                problem = _problem(name, number, error, line, last=not following)
                if tolerant:
                    yield BadRow(Origin(name, number), problem, UNREADABLE)
                else:
                    problems.append(problem)
                if len(problems) == MAX_REPORTED:
                    break
            else:
                yield _row(value, Origin(name, number))
        line, number = following, number + 1
    if problems:
        raise _syntax(problems)


def _spread(error: ValueError, text: str, following: str) -> bool:
    """Whether the first line is the beginning of one object written over several lines."""
    at_end = isinstance(error, json.JSONDecodeError) and error.pos >= len(text)
    return at_end and text[0] == "{" and bool(following) and not following.startswith("{")


def _single(stream: TextIO, start: str, number: int, name: str) -> Row | BadRow:
    text = start + stream.read(MAX_LINE_CHARS + 1 - len(start))
    if len(text) > MAX_LINE_CHARS:
        raise line_too_long(name, number)
    try:
        return _row(decode(text), Origin(name, number))
    except json.JSONDecodeError as error:
        if error.msg == "Extra data":
            raise MalformedFileError(
                f"{name} line {number + error.lineno - 1}: a second JSON value begins",
                why="a file is one array, or one object a line; here objects are spread over lines",
                fix="put every object on a line of its own: jq -c . FILE > rows.jsonl",
            ) from error
        where = number + error.lineno - 1
        raise _syntax([f"{name} line {where}, column {error.colno}: {error.msg}"]) from error
    except RefusedJsonError as error:
        raise _syntax([f"{name} line {number}: {error}"]) from error


def _problem(name: str, number: int, error: ValueError, line: str, *, last: bool) -> str:
    if not isinstance(error, json.JSONDecodeError):
        return f"{name} line {number}: {error}"
    where = f"{name} line {number}, column {error.pos + 1 + len(line) - len(line.lstrip())}"
    unfinished = error.pos >= len(line.strip()) or error.msg.startswith("Unterminated string")
    if last and unfinished and not line.endswith("\n"):
        return f"{where}: the last line is cut off, the file looks truncated"
    return f"{where}: {error.msg}"


def _syntax(problems: list[str]) -> MalformedFileError:
    more = f"; also {'; '.join(problems[1:])}" if len(problems) > 1 else ""
    return MalformedFileError(
        problems[0],
        why=f"a data file is a JSON array, or one JSON object a line{more}",
        fix="mend the line and start again; python -m json.tool checks one object",
    )


class _Array:
    """A window on the text of an array that moves forward and never holds more than one element
    and a chunk."""

    def __init__(self, stream: TextIO, head: str, line: int, name: str) -> None:
        self.stream, self.text, self.name = stream, head, name
        self.at, self.ended = head.index("[") + 1, False
        self._line, self._column = line, 0  # where the window begins, from 1 and from 0

    def grow(self) -> bool:
        """Read on; False at the end of the file."""
        chunk = self.stream.read(max(_CHUNK_CHARS, len(self.text) - self.at))
        self._line, self._column = self._place(self.at)
        self.text, self.at = self.text[self.at :] + chunk, 0
        self.ended = not chunk
        return bool(chunk)

    def next_character(self) -> str:
        """The next that is not white space, without taking it; empty at the end of the file."""
        while True:
            self.at = _SPACE.match(self.text, self.at).end()  # type: ignore[union-attr]
            if self.at < len(self.text):
                return self.text[self.at]
            if not self.grow():
                return ""

    def _place(self, position: int) -> tuple[int, int]:
        """Line (from 1) and column (from 0) of a position in the window."""
        lines = self.text.count("\n", 0, position)
        if not lines:
            return self._line, self._column + position
        return self._line + lines, position - self.text.rfind("\n", 0, position) - 1

    def where(self, position: int) -> str:
        """A position in the window, as errors name it."""
        line, column = self._place(position)
        return f"{self.name} line {line}, column {column + 1}"

    def element(self) -> object:
        while True:
            if len(self.text) - self.at > MAX_LINE_CHARS + _CHUNK_CHARS:
                raise line_too_long(self.name, self._place(self.at)[0])
            try:
                value, end = _DECODER.raw_decode(self.text, self.at)
                if end == len(self.text) and not self.ended:
                    self.grow()
                    continue  # a number may go on in the next chunk
                check(self.text[self.at : end], value)
            except TooMuchJsonError as error:
                raise self._too_much(error) from error
            except json.JSONDecodeError as error:
                if not self.ended and self._may_go_on(error):
                    self.grow()
                    continue
                raise _syntax([self._describe(error)]) from error
            except ValueError as error:
                raise _syntax([f"{self.where(self.at)}: {error}"]) from error
            self.at = end
            return value

    def _may_go_on(self, error: json.JSONDecodeError) -> bool:
        return error.msg.startswith("Unterminated string") or error.pos > len(self.text) - 16

    def _describe(self, error: json.JSONDecodeError) -> str:
        cut = error.pos >= len(self.text.rstrip()) or error.msg.startswith("Unterminated string")
        hint = "the file ends inside the array, it looks truncated" if cut else error.msg
        return f"{self.where(error.pos)}: {hint}"

    def _too_much(self, error: TooMuchJsonError) -> LimitError:
        much = _too_much(error)
        return LimitError(f"{self.where(self.at)}: {much.what}", why=much.why, fix=much.fix)


def _array(stream: TextIO, head: str, number: int, name: str) -> Iterator[Row | BadRow]:
    array, index = _Array(stream, head, number, name), 0
    closed = array.next_character() == "]"
    while not closed:
        index += 1
        array.next_character()
        yield _row(array.element(), Origin(name, index))
        mark = array.next_character()
        if mark not in (",", "]"):
            hint = (
                "',' or ']' is missing" if mark else "the array is not closed: it looks truncated"
            )
            raise _syntax([f"{array.where(array.at)}: {hint}"])
        closed = mark == "]"
        array.at += 0 if closed else 1
    array.at += 1
    if array.next_character():
        raise _syntax([f"{array.where(array.at)}: more text after the end of the array"])
