"""E-mail addresses in the text."""

import re

from luthier.data.doctor.row import CheckedRow
from luthier.data.doctor.rule import Rule

_ADDRESS = re.compile(r"[A-Za-z0-9_.+-]{1,64}@(?:[A-Za-z0-9-]{1,63}\.)+[A-Za-z]{2,24}(?![\w@])")
_INVENTED = re.compile(r"@(?:[\w-]+\.)*(?:example|test|domain|email|company)\.|@example", re.I)


class EmailAddresses(Rule):
    """E-mail addresses; those that are plainly invented (example.com) are not counted."""

    code = "email-addresses"
    severity = "warning"
    title = "e-mail addresses"
    why = "a fine-tuned model repeats them, and they may belong to somebody"
    example = {"instruction": "Who can help?", "output": "Write to ana.silva@uni-porto.pt."}
    fix = "replace them with name@example.com, or remove the rows"

    def look(self, row: CheckedRow) -> str | None:
        """The first, its name shortened."""
        if "@" not in row.text:
            return None
        for found in _ADDRESS.finditer(row.text):
            if not _INVENTED.search(found.group()):
                name, _, domain = found.group().partition("@")
                return f"{name[:2]}…@{domain}"
        return None
