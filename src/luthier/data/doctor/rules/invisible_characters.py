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


SPACELESS = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\ua9e0-\uaa7f\u1950-\u19df\u1a20-\u1aaf]"
)
"""Thai, Lao, Burmese, Khmer and Tai scripts: written without spaces, and U+200B parts their words."""

_SPACE = re.compile(r"\u200b+")


def without_invisible(text: str) -> str:
    """A text without byte-order marks, word joiners and zero-width spaces, but for those that stand
    beside a letter of a script that uses them."""
    text = text.replace("\ufeff", "").replace("\u2060", "")
    return _SPACE.sub(_kept, text) if "\u200b" in text else text


def _kept(found: re.Match[str]) -> str:
    around = found.string[max(0, found.start() - 1) : found.end() + 1]
    return found.group() if SPACELESS.search(around) else ""


class InvisibleCharacters(Rule):
    """Byte-order marks inside text, zero-width spaces, soft hyphens, marks of direction."""

    code = "invisible-characters"
    severity = "warning"
    title = "invisible characters"
    why = "they split words into rare tokens, and the model learns to write what nobody sees"
    example = {"instruction": "Say hello.", "output": "Hel\u200blo."}
    fix = "luthier data fix FILE --output NEW takes byte-order marks and zero-width spaces out"

    def look(self, row: CheckedRow) -> str | None:
        """Which one, and how often."""
        if row.plain_ascii or not INVISIBLE.search(row.text):
            return None
        text = _SPACE.sub(lambda found: "" if _kept(found) else found.group(), row.text)
        if not (found := INVISIBLE.search(text)):
            return None
        mark = found.group()
        return f"{_NAMES[mark]} U+{ord(mark):04X}, {len(INVISIBLE.findall(text))} in the row"
