"""Rows of one file to samples: every row's format is found, none is guessed."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from luthier.data.formats.aside import check_aside
from luthier.data.formats.columns import read_columns
from luthier.data.formats.detect import FIELD_NAMES, Detector, nearest
from luthier.data.formats.flags import unused_keys
from luthier.data.formats.format import Context, Format
from luthier.data.formats.suggest import check_cells, suggest
from luthier.data.formats.text import recognise
from luthier.data.formats.tools import UnusableRowError
from luthier.data.types import BadRow, Row, Sample, Text
from luthier.errors import FormatError


@dataclass(frozen=True)
class Parsed:
    """What the rows of one file became.

    `mix`: samples of each format; texts by form.  `unused`: rows in which a column was not used.
    """

    samples: list[Sample]
    mix: dict[str, int]
    bad: list[BadRow]
    unused: dict[str, int] = field(default_factory=dict)


def parse(rows: Sequence[Row], *, columns: Mapping[str, str] | None = None) -> Parsed:
    """The samples of one file's rows, in order.

    Args:
        rows: All rows of the file: the form of texts is recognised over all of them.
        columns: See `luthier.data.formats.columns`.

    Raises:
        SettingsError: `columns` has a name on the left that is not one of ours.
        FormatError: No row has a known format, a row has two, or `columns` names a column that no
            row has.
    """
    reader = RowReader(columns)
    check_cells(rows, reader.columns)
    samples: list[Sample] = []
    formats: Counter[str] = Counter()
    unused: Counter[str] = Counter()
    bad: list[BadRow] = []
    unknown = 0
    for row in rows:
        made = reader.read(row)
        if isinstance(made.sample, BadRow):
            unknown += made.format is None
            bad.append(made.sample)
            continue
        assert made.format is not None
        samples.append(made.sample)
        formats[made.format.name] += 1
        unused.update(made.unused)
    if rows and unknown == len(rows):
        raise unknown_format(rows, reader.columns.fields)
    return Parsed(*_with_forms(samples, formats), bad, dict(unused))


@dataclass(frozen=True, slots=True)
class ReadRow:
    """What one row became: its format (None if it has none) and the columns nothing is made of."""

    sample: Sample | BadRow
    format: Format | None
    unused: Sequence[str] = ()


class RowReader:
    """Reads rows one by one; the form of texts and what a whole file shows is not its business.

    Raises:
        SettingsError: `columns` has a name on the left that is not one of ours.
    """

    def __init__(self, columns: Mapping[str, str] | None = None) -> None:
        self.columns = read_columns(columns, FIELD_NAMES)
        self._detector = Detector(self.columns)
        spelling = self.columns.spelling
        self._turn_keys = (*spelling.role_keys, *spelling.content_keys)

    def read(self, row: Row) -> ReadRow:
        """The sample of a row, or why it cannot be used.

        Raises:
            FormatError: The row has the fields of two formats, or leaves a column aside that means
                something; see `luthier.data.formats.aside`.
        """
        fields = self._detector.fields_of(row.fields)
        found = self._detector.formats(fields)
        if len(found) > 1:
            raise _ambiguous(row, found)
        if not found:
            reason = f"no known format: {nearest(fields)}"
            return ReadRow(BadRow(row.origin, reason, "format-unknown"), None)
        try:
            sample = found[0].read(fields, Context(row.origin, self.columns.spelling))
        except UnusableRowError as error:
            return ReadRow(BadRow(row.origin, str(error), error.kind), found[0])
        unused = self._detector.unused(row.fields, found[0])
        if unused and not self._detector.decided:
            check_aside(row, unused, found[0], sample)
        unused += unused_keys(fields, self._turn_keys)
        return ReadRow(sample, found[0], unused)


def _with_forms(
    samples: list[Sample], formats: Counter[str]
) -> tuple[list[Sample], dict[str, int]]:
    mix = dict(formats)
    if "text" not in mix:
        return samples, mix
    texts = iter(recognise([sample for sample in samples if isinstance(sample, Text)]))
    samples = [next(texts) if isinstance(sample, Text) else sample for sample in samples]
    del mix["text"]
    mix |= Counter(f"text ({s.form})" for s in samples if isinstance(s, Text))
    return samples, mix


def _ambiguous(row: Row, found: Sequence[Format]) -> FormatError:
    one, other = found[0], found[1]
    choices = [
        "columns: {" + ", ".join(f"{name}: {name}" for name in sorted(f.required)) + "}"
        for f in (one, other)
    ]
    return FormatError(
        f"{row.origin}: the row may be {one.name} ({_listed(one)}) or {other.name} ({_listed(other)})",
        why="it has the fields of both, and which is meant is not guessed",
        fix=f"{choices[0]}, or {choices[1]}",
    )


def _listed(f: Format) -> str:
    return ", ".join(sorted(f.required))


def unknown_format(rows: Sequence[Row], columns: Mapping[str, str]) -> FormatError:
    """The error for a file none of whose rows has a known format."""
    first = rows[0]
    have = ", ".join(map(repr, sorted(map(str, first.fields))[:12])) or "none"
    if absent := [theirs for theirs in columns.values() if not _has(rows, theirs)]:
        return FormatError(
            f"{first.origin.file}: no row has the column {', '.join(map(repr, absent))}",
            why=f"the columns are {have}",
            fix="name columns that are there in `columns`",
        )
    why, fix = suggest(rows)
    return FormatError(
        f"{first.origin.file}: none of its {len(rows)} rows has a known format; the fields are {have}",
        why=why or nearest(first.fields),
        fix=fix
        or "columns: {prompt: THEIR_NAME, completion: THEIR_NAME}; luthier data formats lists all",
    )


def _has(rows: Sequence[Row], name: str) -> bool:
    return any(name in row.fields or name.split(".")[0] in row.fields for row in rows)
