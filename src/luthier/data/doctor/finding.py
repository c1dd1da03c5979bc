"""What the doctor found: one finding a rule, with where it was seen and how to mend it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from luthier.data.types import Origin

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")
"""Worst first.  An error stops or spoils a run; a warning costs quality; a note is good to know."""


@dataclass(frozen=True, slots=True)
class SeenRow:
    """One row in which something was found, and what, in a few words."""

    origin: Origin
    says: str

    def to_dict(self) -> dict[str, object]:
        """As it stands in JSON."""
        return {"file": self.origin.file, "line": self.origin.line, "says": self.says}


@dataclass(frozen=True, slots=True)
class Finding:
    """All that one rule has to say.

    Attributes:
        detail: One sentence with the figures of this data.
        count: Rows (or files, for rules about files) it was found in.
        rows: The first of them.
        params: The figures of `detail` by name, for a translation.
    """

    code: str
    severity: Severity
    title: str
    detail: str
    count: int
    rows: tuple[SeenRow, ...]
    why: str
    fix: str
    params: Mapping[str, object] = field(default_factory=dict)

    def to_dict(self) -> dict[str, object]:
        """As it stands in JSON."""
        return {
            "code": self.code,
            "severity": self.severity,
            "title": self.title,
            "detail": self.detail,
            "count": self.count,
            "rows": [row.to_dict() for row in self.rows],
            "why": self.why,
            "fix": self.fix,
            "params": dict(self.params),
        }
