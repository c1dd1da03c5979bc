"""Columns whose names only look like known ones."""

import unicodedata
from difflib import get_close_matches

from luthier.data.doctor.row import CheckedRow
from luthier.data.doctor.rule import DataFacts, Rule
from luthier.data.formats.detect import FIELD_NAMES
from luthier.data.formats.messages import visible

_LOOKALIKES = str.maketrans("асеорхуіѕԁһјӏοανυρτικ", "aceopxyisdhjloavuptik")
_TURN_KEYS = ("role", "content", "from", "value", "tool_calls", "weight", "function")


class ColumnsLookAlike(Rule):
    """A key with foreign letters that look Latin, or one letter away from a known name."""

    code = "columns-look-alike"
    severity = "warning"
    title = "names that only look like known ones"
    why = "the column is not read: a Cyrillic letter or a slip of the finger hides it"
    example = {"instruction": "Say hello.", "\u043eutput": "Hello."}
    fix = "write the name with the letters of the keyboard, or name it in columns"

    def __init__(self, facts: DataFacts) -> None:
        super().__init__(facts)
        self._known: dict[str, str | None] = {}

    def look(self, row: CheckedRow) -> str | None:
        """The first such name, of a column or of a key of a turn."""
        unread = row.sample is None or row.problem is not None
        for name in (*(row.fields if unread else row.unused), *_inner(row)):
            if name not in self._known:
                self._known[name] = _meant(name, row)
            if (meant := self._known[name]) is not None:
                return f"{visible(name)} looks like {meant!r}"
        return None


def _inner(row: CheckedRow) -> list[str]:
    """Keys of the first turns of a row that cannot be read."""
    if row.sample is not None:
        return []
    lists = (value for value in row.fields.values() if isinstance(value, list))
    turns = (turn for value in lists for turn in value[:4] if isinstance(turn, dict))
    return [str(key) for turn in turns for key in turn]


def _meant(name: str, row: CheckedRow) -> str | None:
    wanted = (*FIELD_NAMES, *_TURN_KEYS)
    plain = unicodedata.normalize("NFKC", name).translate(_LOOKALIKES).strip().casefold()
    plain = "".join(character for character in plain if character.isprintable())
    if name in wanted:
        return None
    if plain in wanted:
        return plain if plain not in row.fields else None
    close = get_close_matches(plain, [word for word in wanted if len(word) > 4], n=1, cutoff=0.88)
    return close[0] if close and close[0] not in row.fields else None
