"""Rows of one file to samples: every row's format is found, none is guessed."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches

from luthier.data.formats.aside import check_aside
from luthier.data.formats.column_templates import names_in
from luthier.data.formats.columns import Columns, read_columns
from luthier.data.formats.detect import FIELD_NAMES, Detector, nearest
from luthier.data.formats.flags import unused_keys
from luthier.data.formats.format import Context, Format
from luthier.data.formats.paste import both
from luthier.data.formats.suggest import any_columns, check_cells, suggest
from luthier.data.formats.text import recognise
from luthier.data.formats.tools import UnusableRowError
from luthier.data.formats.written import row_of
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
    if rows and (absent := absent_columns(rows, reader.columns, only_templates=True)):
        raise absent
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
        raise unknown_format(rows, reader.columns)
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

    def known_fields(self, row: Row) -> dict[str, object] | None:
        """A row under our names with nothing else, so that it needs no `columns` any more.

        None where it has no one format, or where that would not say the same.
        """
        made = self.read(row)
        if made.format is None or isinstance(made.sample, BadRow):
            return None
        named = self._detector.fields_of(row.fields)
        kept = {name: value for name, value in named.items() if name in made.format.fields}
        again = RowReader().read(Row(kept, row.origin)).sample
        return kept if again == made.sample else row_of(made.sample)

    def read(self, row: Row) -> ReadRow:
        """The sample of a row, or why it cannot be used.

        Raises:
            FormatError: The row has the fields of two formats, or leaves a column aside that means
                something; see `luthier.data.formats.aside`.
        """
        try:
            fields = self._detector.fields_of(row.fields)
        except UnusableRowError as error:
            return ReadRow(BadRow(row.origin, str(error), "format-unknown"), None)
        found = self._detector.formats(fields)
        if len(found) > 1:
            raise _ambiguous(row, found)
        if not found:
            fields = self._detector.fields_of(row.fields, empty="")  # null is as empty as ""
            found = self._detector.formats(fields)
        if len(found) != 1:
            reason = f"no known format: {nearest(self._detector.fields_of(row.fields))}"
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
    choices = [both({name: name for name in sorted(f.required)}) for f in (one, other)]
    return FormatError(
        f"{row.origin}: the row may be {one.name} ({_listed(one)}) or {other.name} ({_listed(other)})",
        why="it has the fields of both, and which is meant is not guessed",
        fix=f"{choices[0]}; for the second {choices[1]}",
    )


def _listed(f: Format) -> str:
    return ", ".join(sorted(f.required))


def unknown_format(rows: Sequence[Row], columns: Columns) -> FormatError:
    """The error for a file none of whose rows has a known format."""
    first = rows[0]
    have = ", ".join(map(repr, sorted(map(str, first.fields))[:12])) or "none"
    if absent := absent_columns(rows, columns):
        return absent
    why, fix = suggest(rows)
    return FormatError(
        f"{first.origin.file}: none of its {len(rows)} rows has a known format; the fields are {have}",
        why=why or nearest(first.fields),
        fix=fix
        or f"say which column is asked and which answered, as in {both(any_columns(rows))}; "
        "luthier data formats lists all",
    )


def absent_columns(
    rows: Sequence[Row], columns: Columns, *, only_templates: bool = False
) -> FormatError | None:
    """The error for columns that are named and that no row has; None where there are none.

    Args:
        only_templates: Look at templates alone; a row may lack a field that has a name of its own.
    """
    names = [
        name
        for ours, theirs in columns.fields.items()
        if ours in columns.templates or not only_templates
        for name in (names_in(theirs) or (theirs,))
    ]
    absent = [name for name in dict.fromkeys(names) if not _has(rows, name)]
    if not absent:
        return None
    have = sorted({str(name) for row in rows for name in row.fields})
    near = get_close_matches(absent[0], have, n=1, cutoff=0.5)
    named = {o: t.replace(absent[0], near[0]) if near else t for o, t in columns.fields.items()}
    return FormatError(
        f"{rows[0].origin.file}: no row has the column {', '.join(map(repr, absent))}",
        why=f"the columns are {', '.join(map(repr, have[:12])) or 'none'}",
        fix=both(named)
        if near
        else f"name columns that are there, as in {both(any_columns(rows))}",
    )


def _has(rows: Sequence[Row], name: str) -> bool:
    return any(name in row.fields or name.split(".")[0] in row.fields for row in rows)
