"""The first rows of a file as they were written, and what its columns seem to hold."""

from collections.abc import Mapping
from itertools import islice
from pathlib import Path

from luthier.data.doctor.stream import Reading
from luthier.data.formats.detect import FIELD_NAMES
from luthier.data.formats.guess import guess_choices, guess_columns, guess_parts
from luthier.data.types import Row

LONGEST_CELL = 2_000
LOOKED_AT = 20


def raw_rows(file: str | Path, *, count: int, encoding: str | None = None) -> dict[str, object]:
    """Rows before anything is made of them; what cannot be read is left out here.

    Args:
        count: How many at most.

    Returns:
        `columns`, the names in the file; `rows`, each with `line` and `fields`, long texts cut;
        `known`, whether they have a format without being told; `guess`, the `columns` that their
        names suggest; `parts` and `choices`, what each name seems to hold; `ours`, the names that
        `columns` may have on its left.
    """
    reading = Reading([Path(file)], encoding=encoding, tolerant=True)
    reads = list(islice(reading.rows(), max(count, LOOKED_AT)))
    rows = [read.row for read in reads if read.row is not None]
    return {
        "columns": list(dict.fromkeys(str(name) for row in rows for name in row.fields)),
        "rows": [{"line": row.origin.line, "fields": _shown(row)} for row in rows[:count]],
        "known": any(read.format not in (None, "uncertain") for read in reads),
        "guess": guess_columns(rows),
        "parts": dict(guess_parts(rows)),
        "choices": guess_choices(rows),
        "ours": sorted(FIELD_NAMES),
    }


def _shown(row: Row) -> Mapping[str, object]:
    return {
        str(name): value if not isinstance(value, str) else value[:LONGEST_CELL]
        for name, value in row.fields.items()
    }
