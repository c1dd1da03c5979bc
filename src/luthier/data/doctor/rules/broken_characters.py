"""Text that was decoded in a wrong encoding."""

import re

from luthier.data.doctor.row import CheckedRow, excerpt
from luthier.data.doctor.rule import Rule

_MOJIBAKE = (
    "[\u00c2\u00c3][\u0080-\u00bf]"  # UTF-8 read as Latin-1: \u00c3\u00a9
    "|\u00e2\u20ac[\u2122\u0153\u201c\u201d\u02dc\u00a2\u00a6]"  # quotes read as cp1252
    "|\u951f\u65a4\u62f7|\u70eb\u70eb\u70eb|\u00ef\u00bf\u00bd"  # what GBK makes of U+FFFD
)
BROKEN = re.compile(f"\ufffd|[\ue000-\uf8ff]|{_MOJIBAKE}")


class BrokenCharacters(Rule):
    """U+FFFD, characters of private use, and text such as `\u00c3\u00a9` that was decoded wrongly."""

    code = "broken-characters"
    severity = "warning"
    title = "broken characters"
    why = "what was lost in a conversion is learned as it stands, and comes out in answers"
    example = {"instruction": "Translate: coffee", "output": "caf\u00c3\u00a9"}
    fix = "convert the source again in its right encoding; U+FFFD cannot be brought back"

    def look(self, row: CheckedRow) -> str | None:
        """The first place; private use is named by its number."""
        if row.plain_ascii or not (found := BROKEN.search(row.text)):
            return None
        character = found.group()
        if len(character) == 1 and character != "\ufffd":
            return f"private use U+{ord(character):04X}"
        return excerpt(row.text, *found.span())
