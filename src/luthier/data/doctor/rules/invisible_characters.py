"""Characters that nobody sees."""

import re

from luthier.data.doctor.row import CheckedRow
from luthier.data.doctor.rule import Rule

_NAMES = {
    "\ufeff": "byte-order mark",
    "\u200b": "zero-width space",
    "\u2060": "word joiner",
    "\u00ad": "soft hyphen",
    "\u202a": "direction mark",
    "\u202b": "direction mark",
    "\u202c": "direction mark",
    "\u202d": "direction mark",
    "\u202e": "direction mark",
    "\u2028": "line separator",
    "\u2029": "paragraph separator",
}
INVISIBLE = re.compile("[" + "".join(_NAMES) + "]")
"""Joiners are not among them: emoji, Persian and Indian scripts need theirs."""


class InvisibleCharacters(Rule):
    """Byte-order marks inside text, zero-width spaces, soft hyphens, marks of direction."""

    code = "invisible-characters"
    severity = "warning"
    title = "invisible characters"
    why = "they split words into rare tokens, and the model learns to write what nobody sees"
    example = {"instruction": "Say hello.", "output": "Hel\u200blo."}
    fix = "luthier data fix takes byte-order marks and zero-width spaces out"

    def look(self, row: CheckedRow) -> str | None:
        """Which one, and how often."""
        if row.plain_ascii or not (found := INVISIBLE.search(row.text)):
            return None
        mark = found.group()
        return f"{_NAMES[mark]} U+{ord(mark):04X}, {len(INVISIBLE.findall(row.text))} in the row"
