"""Control characters in text."""

import re

from luthier.data.doctor.row import CheckedRow
from luthier.data.doctor.rule import Rule

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")


class ControlCharacters(Rule):
    """NUL, escape and their kind; tab, line feed and carriage return are text."""

    code = "control-characters"
    severity = "warning"
    title = "control characters"
    why = "no keyboard writes them: they come from terminals, PDFs and damaged files"
    example = {"instruction": "Say hello.", "output": "\x1b[1mHello\x1b[0m"}
    fix = "luthier data fix FILE --output NEW takes them out"

    def look(self, row: CheckedRow) -> str | None:
        """Which one, and how often."""
        found = _CONTROL.search(row.text)
        if found is None:
            return None
        return f"U+{ord(found.group()):04X}, {len(_CONTROL.findall(row.text))} in the row"
