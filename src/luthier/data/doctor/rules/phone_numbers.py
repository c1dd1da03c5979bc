"""Telephone numbers in the text."""

import re

from luthier.data.doctor.row import CheckedRow
from luthier.data.doctor.rule import Rule

_NUMBERS = re.compile(
    r"(?<![\w.+-])(?:"
    r"\+\d{1,3}[ .-]?(?:\(\d{1,4}\)[ .-]?)?\d{2,4}(?:[ .-]?\d{2,4}){1,4}"  # international
    r"|\(?[2-9]\d{2}\)?[ .-]\d{3}[ .-]\d{4}"  # North America
    r"|1[3-9]\d{9}"  # China, mobile
    r"|08\d{2}[ -]?\d{3,4}[ -]?\d{3,4}"  # Indonesia, mobile
    r"|0[35789]\d{1}[ .-]?\d{3}[ .-]?\d{2}[ .-]?\d{2}"  # Vietnam, mobile
    r")(?![\w-])"
)
_DIGIT = re.compile(r"\d{3}")
_INVENTED = re.compile(r"555|123[ -.]?456|(\d)\1{5}")


class PhoneNumbers(Rule):
    """Telephone numbers, international or as China, Indonesia, Vietnam and North America write
    them; 555 and 123456 are taken for invented."""

    code = "phone-numbers"
    severity = "warning"
    title = "telephone numbers"
    why = "a fine-tuned model repeats them, and they may belong to somebody"
    example = {"instruction": "Whom do I call?", "output": "Call +62 812 3498 7712."}
    fix = "replace them, or remove the rows"

    def look(self, row: CheckedRow) -> str | None:
        """The first, its end hidden."""
        if not _DIGIT.search(row.text):
            return None
        for found in _NUMBERS.finditer(row.text):
            if not _INVENTED.search(found.group()):
                return f"{found.group()[:-4]}····"
        return None
