"""Which format a row has, by the names of its fields."""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches

from luthier.data.formats.chat import CHAT_FORMATS
from luthier.data.formats.columns import Columns
from luthier.data.formats.format import Format
from luthier.data.formats.instructions import INSTRUCTION_FORMATS
from luthier.data.formats.messages import visible
from luthier.data.formats.preference import FEEDBACK_FORMATS, PREFERENCE_FORMATS
from luthier.data.formats.text import TEXT_FORMATS

FORMATS: tuple[Format, ...] = (
    *CHAT_FORMATS,
    *INSTRUCTION_FORMATS,
    *TEXT_FORMATS,
    *PREFERENCE_FORMATS,
    *FEEDBACK_FORMATS,
)
"""Every format that is recognised, for `luthier data formats`."""

FIELD_NAMES = frozenset().union(*(f.fields for f in FORMATS))
"""Every name that `columns` may have on its left, beside those for turns."""


def matching(names: frozenset[str]) -> list[Format]:
    """The formats a row with these fields may have; more than one is an ambiguity.

    Of two where one uses only part of what the other uses, the other it is: a row with
    instruction, input and output is Alpaca, and not input and output.
    """
    fitting = [f for f in FORMATS if f.required <= names and not f.never & names]
    used = {f.name: f.fields & names for f in fitting}
    need = {f.name: f.required for f in fitting}
    return [
        f
        for f in fitting
        if not any(
            used[f.name] < used[other.name]
            or (used[f.name] == used[other.name] and need[f.name] < need[other.name])
            for other in fitting
        )
    ]


class Detector:
    """Finds the format of each row; remembers the answer for each set of names.

    `decided`: the columns named make a format by themselves, so what is left aside was meant to be.
    """

    def __init__(self, columns: Columns) -> None:
        self._columns = columns
        self._known: dict[tuple[str, ...], list[Format]] = {}
        self.decided = bool(matching(frozenset(columns.fields)))

    def fields_of(self, row: Mapping[str, object], *, empty: object = None) -> Mapping[str, object]:
        """The row's fields under our names, nulls left out, or with `empty` in their place.

        With `columns`, the names given decide the format; fields which that format may have and
        which they leave out are taken from the row under their own names.  Where the names given
        make no format by themselves, the row's other fields are added to them.
        """
        present = row
        if None in row.values():
            filled = ((k, empty if v is None else v) for k, v in row.items())
            present = {k: v for k, v in filled if v is not None}
        if not self._columns.fields:
            return present
        named = self._columns.apply(row, empty=empty)
        spoken_for = self._columns.used
        rest = {k: v for k, v in present.items() if k not in named and k not in spoken_for}
        if not self.decided:
            return {**rest, **named}
        beside = {name for f in self.formats(named) for name in f.optional}
        return {**{k: v for k, v in rest.items() if k in beside}, **named}

    def unused(self, row: Mapping[str, object], found: Format) -> list[str]:
        """The columns of a row that nothing is made of."""
        if len(row) == len(found.required):
            return []
        used = self._columns.used
        return [k for k, v in row.items() if not (k in found.fields or k in used or v is None)]

    def formats(self, fields: Mapping[str, object]) -> list[Format]:
        """The formats these fields may have."""
        key = tuple(fields)
        if key not in self._known:
            self._known[key] = matching(frozenset(key))
        return self._known[key]


def nearest(names: Iterable[str]) -> str:
    """What a row without a format comes closest to, and what it would need."""
    have = {str(name) for name in names}
    if not have:
        return "the row has no fields"
    usual = [f for f in FORMATS if f.required & have]
    if usual:
        if whole := next((f for f in usual if f.required <= have and f.never & have), None):
            several = ", ".join(visible(name) for name in sorted(whole.never & have))
            return f"it would be {whole.name}, but for what else is asked with: {several}"
        best = max(
            usual, key=lambda f: (len(f.required & have) / len(f.required), -len(f.required))
        )
        missing = sorted(best.required - have)
        hints = [_similar(name, have - best.fields) for name in missing]
        return f"{best.name} would need {', '.join(map(repr, missing))}{''.join(hints)}"
    hints = [hint for f in sorted(FIELD_NAMES) if (hint := _similar(f, have))]
    shown = ", ".join(visible(name) for name in sorted(have)[:8])
    return f"its fields are {shown}{hints[0] if hints else ''}"


def _similar(name: str, have: Iterable[str]) -> str:
    close = get_close_matches(name, list(have), n=1, cutoff=0.75)
    return f"; {visible(close[0])} looks like {name!r}" if close else ""
