"""`fix`: the file again with the safe fixes applied, beside a list of what was done.

The original is never touched, nothing is overwritten, and fixing a fixed file changes nothing.
"""

import csv
import io
import json
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from luthier.data.doctor.keys import exact_key, hash64
from luthier.data.doctor.mend import Mend, Mended, mend
from luthier.data.doctor.stream import Progress, Read, Reading, is_utf8
from luthier.data.formats import RowReader
from luthier.data.reading.files import check_file, encoding_error, is_certain
from luthier.data.reading.read import BINARY, ending
from luthier.data.types import BadRow, Origin
from luthier.durable import make_folders, write_stream
from luthier.errors import FileAccessError, FormatError, NoRowsError
from luthier.shown import html_table

WRITTEN = (".jsonl", ".json", ".csv", ".tsv", ".txt")
_SPOOLED_BYTES = 16 * 1024 * 1024


@dataclass
class FixReport:
    """What was done: rows read, rows written, and how often each rule was acted on."""

    source: str
    output: str
    changes: str
    rows: int = 0
    written: int = 0
    done: Counter[str] = field(default_factory=Counter)

    def _repr_html_(self) -> str:
        rows = [{"rule": code, "rows": count} for code, count in self.done.most_common()]
        return html_table(f"{self.output}: {self.written:,} of {self.rows:,} rows", rows)

    def to_dict(self) -> dict[str, Any]:
        """As it stands in JSON."""
        return {
            "file": self.source,
            "output": self.output,
            "changes": self.changes,
            "rows": self.rows,
            "written": self.written,
            "dropped": self.rows - self.written,
            "done": dict(self.done.most_common()),
        }


def fix(
    file: str | Path,
    output: str | Path,
    *,
    columns: Mapping[str, str] | None = None,
    encoding: str | None = None,
    progress: Progress | None = None,
) -> FixReport:
    """Write `output`, and `output` + `.fixes.jsonl` with a line for everything that was done.

    With `columns` the rows are written under our names, so that the new file needs none.  A line
    that is no JSON, and a record with other cells than the header, is left out and listed.

    Args:
        output: Its ending says how it is written: JSON and JSON lines from any file, CSV and text
            from their own kind.
        encoding: Of the file; None is UTF-8, or UTF-16 and UTF-32 where a byte-order mark says so.

    Raises:
        FileAccessError: `output` exists, or its ending does not fit.
        EncodingError: It is not UTF-8 and nothing but a guess says what it is.
        DataError: The file cannot be read to its end; nothing is written then.
    """
    source, target = Path(file), Path(output)
    check_file(source)
    _check_encoding(source, encoding)
    listed = target.with_name(f"{target.name}.fixes.jsonl")
    _check_output(source, target, listed)
    make_folders(target.absolute().parent)
    report = FixReport(str(source), str(target), str(listed))
    with tempfile.SpooledTemporaryFile(_SPOOLED_BYTES, mode="w+b") as ledger:
        work = _Work(source, report, ledger, columns, encoding)
        write_stream(target, _encoded(work.rows(progress), ending(target)), exclusive=True)
        ledger.seek(0)
        write_stream(listed, iter(lambda: ledger.read(1 << 20), b""), exclusive=True)
    return report


def _check_encoding(source: Path, encoding: str | None) -> None:
    """Refuse to write what would rest on a guess."""
    text = ending(source) not in BINARY
    if encoding is None and text and not is_utf8(source) and not is_certain(source):
        raise encoding_error(source, None)


def _check_output(source: Path, target: Path, listed: Path) -> None:
    for path in (target, listed):
        if path.exists() or path.is_symlink():
            raise FileAccessError(
                f"{path} exists already",
                why="nothing is overwritten, the original least of all",
                fix="--output with another name",
            )
    kind, own = ending(target), ending(source)
    if (
        target.suffix.lower() == ".gz"
        or kind not in WRITTEN
        or (kind not in (".jsonl", ".json") and kind != own)
    ):
        raise FileAccessError(
            f"{target} would be written from {source}",
            why="any file is written as .jsonl or .json, and CSV, TSV and text as their own kind",
            fix=f"--output {target.with_suffix('.jsonl')}",
        )


class _Work:
    """The rows of one file, mended one by one."""

    def __init__(
        self,
        source: Path,
        report: FixReport,
        ledger: IO[bytes],
        columns: Mapping[str, str] | None,
        encoding: str | None,
    ) -> None:
        self._reading = Reading([source], columns=columns, encoding=encoding, tolerant=True)
        self._reader = RowReader(columns)
        self._renames = bool(columns)
        self._turns = (columns or {}).get("messages")
        self._report, self._ledger = report, ledger
        self._seen: dict[int, int] = {}

    def rows(self, progress: Progress | None) -> Iterator[dict[str, Any]]:
        """What is written."""
        for read in self._reading.rows(progress):
            self._report.rows += 1
            made = self._one(read)
            for done in made.done:
                self._note(read.origin, done)
            if made.fields is not None:
                self._report.written += 1
                yield made.fields
        for problem in self._reading.problems:
            if problem.code == "file-unreadable":
                raise problem.error
        encoding = self._reading.files[0].encoding
        if any(problem.code == "encoding-not-utf8" for problem in self._reading.problems):
            done = Mend("encoding-not-utf8", f"read as {encoding}, written as UTF-8")
            self._note(Origin(self._report.source, 0), done)
        if not self._report.written:
            raise NoRowsError(
                f"nothing is left of the {self._report.rows:,} rows of {self._report.source}",
                why="rows without an answer are dropped",
                fix="luthier data check FILE says what is wrong with them",
            )

    def _one(self, read: Read) -> Mended:
        if read.row is None:
            assert isinstance(read.sample, BadRow)
            code = read.sample.kind or "row-unusable"
            return Mended(None, (Mend(code, f"dropped: {read.sample.reason}"),))
        try:
            made = mend(read.row, self._reader, self._turns)
        except FormatError:  # two formats fit: nothing is guessed, the row stays as it is
            return Mended(dict(read.row.fields), ())
        if made.fields is None:
            return made
        if self._renames:
            made = made.under_our_names(read.row, self._reader)
            assert made.fields is not None
        key = hash64(_line(made.fields)) if made.sample is None else exact_key(made.sample)
        if (first := self._seen.setdefault(key, read.origin.line)) != read.origin.line:
            repeats = Mend("duplicate-rows", f"dropped: repeats line {first}")
            return Mended(None, (*made.done, repeats))
        return made

    def _note(self, origin: Origin, done: Mend) -> None:
        self._report.done[done.code] += 1
        entry = {"line": origin.line, "code": done.code, "what": done.what}
        self._ledger.write((_line(entry) + "\n").encode())


def _line(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _encoded(rows: Iterator[dict[str, object]], kind: str) -> Iterator[bytes]:
    """The bytes of a file of rows."""
    if kind in (".csv", ".tsv"):
        yield from _csv(rows, "\t" if kind == ".tsv" else ",")
    elif kind == ".json":
        start = "[\n"
        for row in rows:
            yield (start + _line(row)).encode()
            start = ",\n"
        yield b"\n]\n"
    elif kind == ".txt":
        yield from _texts(rows)
    else:
        for row in rows:
            yield (_line(row) + "\n").encode()


def _csv(rows: Iterator[dict[str, Any]], delimiter: str) -> Iterator[bytes]:
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, delimiter=delimiter, lineterminator="\n")
    for number, row in enumerate(rows):
        if number == 0:
            writer.writerow(row)
        writer.writerow([cell if isinstance(cell, str) else _line(cell) for cell in row.values()])
        yield buffer.getvalue().encode()
        buffer.seek(0)
        buffer.truncate()


def _texts(rows: Iterator[dict[str, Any]]) -> Iterator[bytes]:
    """One text a line, or where texts have several lines a blank line between them."""
    held: list[str] = []
    lines = False
    for row in rows:
        held.append(row["text"])
        lines = lines or "\n" in row["text"]
    yield ("\n\n" if lines else "\n").join(held).encode() + b"\n"
