"""Rows of files one by one, with what is wrong with a file kept aside instead of ending it all.

Reading is training's own: `read_rows`, `RowReader`, `with_form`.
"""

import codecs
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from luthier.data.doctor.rule import FileProblem
from luthier.data.formats import RowReader
from luthier.data.formats.parse import absent_columns, unknown_format
from luthier.data.formats.suggest import check_cells, suggest_columns
from luthier.data.formats.text import with_form
from luthier.data.reading.files import encoding_error, guess_encoding, open_bytes
from luthier.data.reading.read import BINARY, ending, read_rows
from luthier.data.reading.tables import Accidents, no_rows
from luthier.data.text_forms import Form, form_of, usual_form
from luthier.data.types import BadRow, Origin, Row, Sample, Text
from luthier.errors import (
    EncodingError,
    FormatError,
    LimitError,
    MalformedFileError,
    NoRowsError,
)
from luthier.units import MIB

HEAD_ROWS = 200
"""Rows of a file by which it is judged as a whole, as in training."""

Progress = Callable[[int, int | None], None]
"""Called with the rows done and, where it is known, how many there are."""


class Read(NamedTuple):
    """A row as it was read, before anything is rendered.

    `inside` is the sample that a row of no known format would be with the columns suggested.
    """

    origin: Origin
    row: Row | None
    sample: Sample | BadRow
    format: str | None
    unused: Sequence[str]
    inside: Sample | None = None


@dataclass
class FileCount:
    """What one file held."""

    path: str
    rows: int = 0
    formats: Counter[str] = field(default_factory=Counter)
    encoding: str = ""
    looked_with: Mapping[str, str] = field(default_factory=dict)


class Reading:
    """Reads files; afterwards `files`, `problems` and `notices` say what they held.

    Args:
        encoding: Of the text files; None is UTF-8, and where a file is not, the encoding that it
            looks like, so that its rows can be looked at all the same.
        tolerant: A line that cannot be read is a `BadRow` and not the end of the file.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        *,
        columns: Mapping[str, str] | None = None,
        encoding: str | None = None,
        tolerant: bool = False,
    ) -> None:
        self._paths, self._encoding, self._tolerant = list(paths), encoding, tolerant
        self._reader = RowReader(columns)
        self._columns = columns
        self.files: list[FileCount] = []
        self.problems: list[FileProblem] = []
        self.notices: list[str] = []

    def rows(self, progress: Progress | None = None) -> Iterator[Read]:
        """Every row of every file, once."""
        self.files, self.problems, self.notices = [], [], []
        total, done = self._estimate() if progress else None, 0
        for path in self._paths:
            count = FileCount(str(path))
            self.files.append(count)
            for read in self._file(path, count):
                done += 1
                if progress and done % 500 == 0:
                    progress(done, total)
                yield read
        if progress:
            progress(done, done)

    def _estimate(self) -> int | None:
        """Lines of files with a row a line; None where any file is of another kind."""
        if any(ending(path) not in (".jsonl", ".ndjson", ".csv", ".tsv") for path in self._paths):
            return None
        total = 0
        for path in self._paths:
            with open_bytes(path) as stream:
                total += sum(chunk.count(b"\n") for chunk in iter(lambda: stream.read(MIB), b""))
        return total

    def _file(self, path: Path, count: FileCount) -> Iterator[Read]:
        encoding = self._readable(path)
        count.encoding = encoding or "utf-8"
        inside = self._inside(path, encoding, count)
        head: list[Row] = []
        form: Form | None = None
        unknown = 0
        accidents = Accidents(path, ending(path))
        for row in self._raw(path, encoding):
            count.rows += 1
            if isinstance(row, Row):
                accidents.see(row)
            if isinstance(row, BadRow):
                yield Read(row.origin, None, row, None, ())
                continue
            if len(head) < HEAD_ROWS:
                head.append(row)
            read = self._one(row)
            if isinstance(read.sample, Text):
                form = self._form(path, encoding) if form is None else form
                alone = form_of(read.sample.text)
                sample = with_form(read.sample, alone if alone == form else "plain")
                read = read._replace(sample=sample, format=f"text ({sample.form})")
            if isinstance(read.sample, BadRow):
                unknown += read.format is None
                read = _looked_into(read, inside)
            elif read.format:
                count.formats[read.format] += 1
            yield read
        self._judge(path, count, head, unknown)
        self.notices += accidents.notices()

    def _inside(self, path: Path, encoding: str | None, count: FileCount) -> RowReader | None:
        """A reader with the columns that would make a file load of which no row has a format."""
        if self._columns:
            return None
        head = [
            row
            for row in islice(read_rows_quietly(path, encoding), HEAD_ROWS)
            if isinstance(row, Row)
        ]
        if not head or any(self._one(row).format is not None for row in head):
            return None
        _, columns = suggest_columns(head)
        count.looked_with = columns
        return RowReader(columns) if columns else None

    def _one(self, row: Row) -> Read:
        try:
            made = self._reader.read(row)
        except FormatError as error:
            bad = BadRow(row.origin, error.what.partition(": ")[2], "format-uncertain")
            return Read(row.origin, row, bad, "uncertain", ())
        name = made.format.name if made.format else None
        return Read(row.origin, row, made.sample, name, made.unused)

    def _judge(self, path: Path, count: FileCount, head: Sequence[Row], unknown: int) -> None:
        """What only the file as a whole shows."""
        if not count.rows:
            self._problem("file-unreadable", path, no_rows(str(path)))
            return
        try:
            check_cells(head, self._reader.columns)
        except FormatError as error:
            self._problem("python-lists-in-cells", path, error)
        absent = absent_columns(head, self._reader.columns, only_templates=True) if head else None
        if absent:
            self._problem("format-unknown", path, absent)
        elif unknown == count.rows and head:
            self._problem("format-unknown", path, unknown_format(head, self._reader.columns))

    def _raw(self, path: Path, encoding: str | None) -> Iterator[Row | BadRow]:
        """The rows as far as the file can be read."""
        try:
            yield from read_rows(path, encoding=encoding, tolerant=self._tolerant)
        except EncodingError as error:
            self._problem("encoding-not-utf8", path, error)
        except (MalformedFileError, LimitError, NoRowsError) as error:
            self._problem("file-unreadable", path, error)

    def _problem(self, code: str, path: Path, error: Exception) -> None:
        assert isinstance(
            error, EncodingError | MalformedFileError | LimitError | FormatError | NoRowsError
        )
        if not any(p.code == code and p.path == str(path) for p in self.problems):
            self.problems.append(FileProblem(code, str(path), error))

    def _readable(self, path: Path) -> str | None:
        """The encoding to read a file with: the one given, or if it is not UTF-8 the likely one."""
        if self._encoding or ending(path) in BINARY or is_utf8(path):
            return self._encoding
        error = encoding_error(path, None)
        self._problem("encoding-not-utf8", path, error)
        return None if "the rest of the file is" in error.what else guess_encoding(path)

    def _form(self, path: Path, encoding: str | None) -> Form:
        """The form that most texts of a file have, from a reading of all of it."""
        counts: Counter[Form] = Counter()
        for row in self._raw(path, encoding):
            made = self._one(row).sample if isinstance(row, Row) else row
            if isinstance(made, Text):
                counts[form_of(made.text)] += 1
        return usual_form(counts)


def read_rows_quietly(path: Path, encoding: str | None) -> Iterator[Row | BadRow]:
    """The rows up to where the file cannot be read; that place is told elsewhere."""
    with suppress(EncodingError, MalformedFileError, LimitError, NoRowsError):
        yield from read_rows(path, encoding=encoding)


def _looked_into(read: Read, reader: RowReader | None) -> Read:
    """The row with the sample it would be, for the rules that look at turns and texts."""
    if reader is None or read.row is None or read.format is not None:
        return read
    try:
        made = reader.read(read.row)
    except FormatError:  # two formats with the columns suggested: nothing is guessed
        return read
    return read if isinstance(made.sample, BadRow) else read._replace(inside=made.sample)


def is_utf8(path: Path) -> bool:
    """Whether a file is UTF-8 from end to end."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    with open_bytes(path) as stream:
        try:
            while chunk := stream.read(MIB):
                decoder.decode(chunk)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            return False
    return True
