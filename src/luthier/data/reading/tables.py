"""Rows of CSV and of plain text."""

import csv
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, TextIO

from luthier.bounded import shown
from luthier.data.reading.files import MAX_LINE_CHARS, open_text
from luthier.data.reading.strict_json import MAX_REPORTED, UNREADABLE, line_too_long
from luthier.data.text_forms import form_of
from luthier.data.types import BadRow, Origin, Row
from luthier.errors import LimitError, MalformedFileError, NoRowsError
from luthier.limits import ROW_FIELDS

_QUOTED = re.compile(r'"(?:[^"]|"")*"')
_DECIDED_LINES = 100_000


class _LimitedLines:
    """The lines of a stream as the csv module wants them, each within the limit."""

    def __init__(self, stream: TextIO, name: str) -> None:
        self._stream, self._name, self.number = stream, name, 0

    def __iter__(self) -> "_LimitedLines":
        return self

    def __next__(self) -> str:
        line = self._stream.readline(MAX_LINE_CHARS + 1)
        if not line:
            raise StopIteration
        self.number += 1
        if len(line) > MAX_LINE_CHARS:
            raise line_too_long(self._name, self.number)
        if "\0" in line:
            raise MalformedFileError(
                f"{self._name} line {self.number} holds a NUL byte",
                why="text has none; the file is binary or damaged",
                fix="look at it: file FILE",
            )
        return line


def csv_rows(
    stream: TextIO, name: str, *, quoted: bool = True, tolerant: bool = False
) -> Iterator[Row | BadRow]:
    """Records of a CSV file with a header; every cell is text.

    The header says what separates the columns: commas, or where it has none, tabs or semicolons.

    Args:
        stream: Opened with `newline=""`, so that line ends inside quotes stay as they are.
        quoted: Whether quotes about a cell belong to the file and not to the cell.
        tolerant: A record with more or fewer cells than the header is a `BadRow`.

    Raises:
        MalformedFileError: A quote that is never closed, or records with more or fewer cells than the
            header; the first 20 together.
    """
    csv.field_size_limit(MAX_LINE_CHARS)  # the module's own limit, 131,072, is below real rows
    lines = _LimitedLines(stream, name)
    header_line = next(lines, "")
    while header_line and not header_line.strip():
        header_line = next(lines, "")
    if not header_line:
        return
    delimiter = next((mark for mark in (",", "\t", ";") if mark in header_line), ",")
    problems: list[str] = []
    start = lines.number
    try:
        rules: Literal[0, 3] = csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE
        header = next(csv.reader([header_line], delimiter=delimiter, strict=True, quoting=rules))
        _check_header(header, name, start)
        start += 1
        for record in csv.reader(lines, delimiter=delimiter, strict=True, quoting=rules):
            if record and _repeats(record, header):
                raise _joined(name, start, record[0])
            if record and len(record) != len(header):
                counts = f"{len(record)} cells, the header has {len(header)}"
                if tolerant:
                    yield BadRow(Origin(name, start), counts, UNREADABLE)
                else:
                    problems.append(f"{name} line {start}: {counts}")
                if len(problems) == MAX_REPORTED:
                    break
            elif record:
                yield Row(dict(zip(header, record, strict=True)), Origin(name, start))
            start = lines.number + 1
    except csv.Error as error:
        raise _csv_error(name, start, error) from error
    if problems:
        raise MalformedFileError(
            problems[0],
            why="every record has one cell for each column"
            + (f"; also {'; '.join(problems[1:])}" if len(problems) > 1 else ""),
            fix='put cells that hold a comma or a line end in quotes: "a, b"',
        )


def _repeats(record: list[str], header: list[str]) -> bool:
    return len(header) > 1 and [record[0].lstrip("\ufeff").strip('"'), *record[1:]] == header


def _joined(name: str, line: int, cell: str) -> MalformedFileError:
    mark = "a byte-order mark and " if cell.startswith("\ufeff") else ""
    return MalformedFileError(
        f"{name} line {line}: {mark}the header again",
        why="files were joined; as a row it would teach the names of the columns",
        fix=f"take line {line} out: sed -i.bak '{line}d' '{name}', or give the files one by one",
    )


def quotes_agree(stream: TextIO, name: str) -> bool:
    """Whether the quotes of a TSV file are there to hold cells together, as in CSV.

    Most such files have no quoting, and a quote is a character as any other.  It is a rule where
    every cell that begins with one also ends with one, and where lines taken as they stand do not
    all have the cells of the header, but records by that rule do.
    """
    lines = _LimitedLines(stream, name)
    header = next(lines, "")
    while header and not header.strip():
        header = next(lines, "")
    width = header.count("\t")
    if not width:
        return True
    whole = even = True
    for line in lines:
        cells = line.rstrip("\r\n").split("\t")
        even = even and (len(cells) == width + 1 or not line.strip())
        whole = whole and all(_QUOTED.fullmatch(cell) for cell in cells if cell.startswith('"'))
        if even and not whole and lines.number > _DECIDED_LINES:
            return False
    return whole or not even


class Accidents:
    """What is said of the rows of one CSV, TSV or text file when all of them were seen."""

    def __init__(self, path: Path, kind: str) -> None:
        self._path, self._text, self._cells = path, kind == ".txt", kind in (".csv", ".tsv")
        self._spanning = self._first = 0
        self._sizes: list[int] = []
        self._blocks = self._indented = 0

    def see(self, row: Row) -> None:
        """Look at one row."""
        if self._cells and swallowed_lines(row):
            self._first = self._first or row.origin.line
            self._spanning += 1
        if self._text and isinstance(text := row.fields.get("text"), str):
            self._sizes.append(len(text))
            self._blocks += "\n" in text
            self._indented += text[:1].isspace()

    def notices(self) -> list[str]:
        """In a sentence each: cells that look like rows; documents, their lengths and borders."""
        made = []
        if self._spanning:
            made.append(
                f"{self._path}: {self._spanning} rows have a cell of several lines of which one looks "
                f"like a row, the first at line {self._first}; a quote left open does that"
            )
        if sizes := self._sizes:
            border = "blank lines" if self._blocks else "line ends"
            made.append(
                f"{self._path}: {len(sizes):,} documents of {min(sizes):,} to {max(sizes):,} characters "
                f"(mean {sum(sizes) / len(sizes):,.0f}), parted at {border}; an end is learned behind each"
                + self._parts()
            )
        return made

    def _parts(self) -> str:
        if not self._indented:
            return ""
        return (
            f"; {self._indented} of them begin with white space, as the middle of a text does: "
            'one {"text": ...} a line in JSONL keeps a text whole'
        )


def _looks_like_a_row(line: str, width: int) -> bool:
    return width > 1 and max(line.count("\t"), line.count(","), line.count(";")) >= width - 1


def swallowed_lines(row: Row) -> bool:
    """Whether a cell spans lines of which one looks like a row itself: a quote left open does that."""
    width = len(row.fields)
    for cell in row.fields.values():
        if isinstance(cell, str) and "\n" in cell:
            inner = cell.split("\n")[1:]
            if any(_looks_like_a_row(line, width) for line in inner):
                return True
    return False


def _check_header(header: list[str], name: str, line: int) -> None:
    if len(header) > ROW_FIELDS:
        raise LimitError(
            f"{name} line {line} names {len(header):,} columns",
            why=f"a table has at most {ROW_FIELDS:,}",
            fix="leave out the columns that are not trained on; luthier data formats lists those read",
        )
    twice = [column for column, count in Counter(header).items() if count > 1]
    if twice:
        raise MalformedFileError(
            f"{name} line {line}: the column {', '.join(map(shown, twice[:5]))} is there twice",
            why="a row is read by the names in the first line",
            fix="give every column a name of its own",
        )


def _csv_error(name: str, line: int, error: csv.Error) -> MalformedFileError | LimitError:
    if "field larger than field limit" in str(error):
        return line_too_long(name, line)
    reason = str(error)
    if "unexpected end of data" in reason:
        reason = "a quote is opened and never closed"
    return MalformedFileError(
        f"{name} line {line}: {reason}",
        why="a cell that holds commas, quotes or line ends stands in quotes, its quotes doubled",
        fix='write quotes inside a cell twice: "say ""hello"""',
    )


def text_rows(path: Path, name: str, encoding: str | None) -> Iterator[Row]:
    """Rows of a plain text file, as the field `text`.

    One row a line, blank lines skipped; but where blank lines stand between blocks of text, one
    row a paragraph, its lines kept.  A file whose first line is a whole chat (`[INST] ..
    [/INST]`, or `### Human: .. ### Assistant: ..`) is always one row a line.
    """
    with open_text(path, encoding) as stream:
        paragraphs = _has_paragraphs(_LimitedLines(stream, name))
    with open_text(path, encoding) as stream:
        lines = _LimitedLines(stream, name)
        if not paragraphs:
            for line in lines:
                if line.strip():
                    yield Row({"text": line.rstrip("\n")}, Origin(name, lines.number))
            return
        yield from _paragraphs(lines, name)


def _paragraphs(lines: _LimitedLines, name: str) -> Iterator[Row]:
    block: list[str] = []
    start = size = 0
    for line in lines:
        if line.strip():
            start = start if block else lines.number
            block.append(line)
            size += len(line)
            if size > MAX_LINE_CHARS:
                raise line_too_long(name, start)
        elif block:
            yield Row({"text": "".join(block).rstrip("\n")}, Origin(name, start))
            block, size = [], 0
    if block:
        yield Row({"text": "".join(block).rstrip("\n")}, Origin(name, start))


def _has_paragraphs(lines: _LimitedLines) -> bool:
    """Whether blank lines part the text, and some part has several lines."""
    run = longest = parts = 0
    for line in lines:
        if not line.strip():
            run = 0
            continue
        if parts == 0 and form_of(line) != "plain":
            return False
        run += 1
        parts += run == 1
        longest = max(longest, run)
        if parts > 1 and longest > 1:
            return True
    return False


def no_rows(name: str) -> NoRowsError:
    """The error for a file without a single row."""
    return NoRowsError(
        f"{name} has no rows",
        why="the file is empty or holds blank lines only",
        fix="luthier data formats shows what a row looks like",
    )
