"""What the doctor hands back: every row accounted for, the figures, and the findings."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from luthier.data.doctor.finding import SEVERITIES, Finding
from luthier.data.doctor.stream import FileCount
from luthier.data.types import BadRow
from luthier.shown import html_table

KEPT_BAD_ROWS = 10_000
_KEPT_REASONS = 1_000


@dataclass
class BadRows:
    """The rows that cannot be used: all are counted, the first 10,000 kept one by one."""

    count: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    rows: list[BadRow] = field(default_factory=list)

    def add(self, row: BadRow) -> None:
        """Count one."""
        self.count += 1
        reason = row.reason if row.reason in self.reasons else row.reason[:120]
        other = len(self.reasons) >= _KEPT_REASONS and reason not in self.reasons
        self.reasons["other reasons" if other else reason] += 1
        if len(self.rows) < KEPT_BAD_ROWS:
            self.rows.append(row)

    def to_dict(self) -> dict[str, object]:
        """As it stands in JSON."""
        return {
            "count": self.count,
            "reasons": dict(self.reasons.most_common()),
            "rows": [
                {
                    "file": row.origin.file,
                    "line": row.origin.line,
                    "code": row.kind,
                    "reason": row.reason,
                }
                for row in self.rows
            ],
        }


@dataclass(frozen=True)
class Report:
    """Attributes:
    rows: Read; `used` and those of `bad` add up to it.
    figures: See `Measure.report`; empty without a tokenizer.
    findings: Worst first.
    notices: What rendering had to say, once each.
    sampled: What was looked at in a part of the rows only, and how many.
    """

    files: tuple[FileCount, ...]
    objective: str
    rows: int
    used: int
    bad: BadRows
    figures: Mapping[str, Any]
    findings: tuple[Finding, ...]
    notices: tuple[str, ...] = ()
    sampled: Mapping[str, int] = field(default_factory=dict)
    model: str | None = None

    @property
    def errors(self) -> int:
        """Findings that are errors."""
        return sum(finding.severity == "error" for finding in self.findings)

    def _repr_html_(self) -> str:
        rows = [
            {
                "": one.severity,
                "code": one.code,
                "what": f"{one.title}: {one.detail}",
                "fix": one.fix,
            }
            for one in self.findings
        ]
        return html_table(f"{self.rows:,} rows, {self.used:,} usable for {self.objective}", rows)

    def to_dict(self) -> dict[str, Any]:
        """As it stands in JSON."""
        files = [
            {
                "path": one.path,
                "rows": one.rows,
                "formats": dict(one.formats),
                "encoding": one.encoding,
                "looked_with": dict(one.looked_with),
            }
            for one in self.files
        ]
        empty: dict[str, object] = {
            "tokens": {},
            "cuts": {},
            "padding_ratio": None,
            "sharing_ratio": None,
        }
        counts = Counter(finding.severity for finding in self.findings)
        return {
            "files": files,
            "objective": self.objective,
            "model": self.model,
            "rows": self.rows,
            "used": self.used,
            "bad": self.bad.to_dict(),
            **(dict(self.figures) or {**empty, "histogram": []}),
            "severities": {name: counts[name] for name in SEVERITIES},
            "findings": [finding.to_dict() for finding in self.findings],
            "notices": list(self.notices),
            "sampled": dict(self.sampled),
        }
