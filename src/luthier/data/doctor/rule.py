"""What a rule is: text that explains it, and two functions, one for a row and one for the end."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from luthier.data.doctor.finding import Finding, SeenRow, Severity
from luthier.data.doctor.places import Places
from luthier.data.doctor.row import CheckedRow, excerpt
from luthier.data.rendering.render import Renderer
from luthier.data.tokens.tokenizer import Tokenizer
from luthier.data.types import Origin
from luthier.errors import LuthierError

SHOWN = 5
"""Rows listed with a finding."""


@dataclass(frozen=True, slots=True)
class FileProblem:
    """What is wrong with a file as a whole: the code of the rule it belongs to, and the error that
    training would end with."""

    code: str
    path: str
    error: LuthierError


@dataclass(frozen=True)
class DataFacts:
    """What rules know beside the rows.

    Attributes:
        seq_length: Tokens a sequence is cut to, in a run with these settings.
        context: Positions the model was built for; None where that is not known.
        held_out: Keys of held-out rows: exact, and with case, spacing and punctuation left aside.
    """

    objective: str
    seq_length: int
    tokenizer: Tokenizer | None = None
    renderer: Renderer | None = None
    context: int | None = None
    places: Places = field(default_factory=Places)
    held_out: tuple[NDArray[np.uint64], NDArray[np.uint64]] | None = None


Sees = Literal["rows", "problems", "pairs"]
"""Which rows a rule is shown: all, those that cannot be used, or pairs."""


class Rule:
    """One thing to look for.  Subclasses give the six texts and `look`, or `row` and `finish`.

    A rule sees every row once, in order, and keeps a bounded amount of memory; what grows with
    the rows (8 bytes each, no text) goes into arrays.
    """

    code: ClassVar[str]
    severity: ClassVar[Severity]
    title: ClassVar[str]
    why: ClassVar[str]
    example: ClassVar[object]
    fix: ClassVar[str]
    sees: ClassVar[Sees] = "rows"

    def __init__(self, facts: DataFacts) -> None:
        self.facts = facts
        self.count = 0
        self.rows: list[SeenRow] = []

    def row(self, row: CheckedRow) -> None:
        """Look at one row."""
        if (says := self.look(row)) is not None:
            self.hit(row.origin, says)

    def look(self, row: CheckedRow) -> str | None:
        """What is found in one row, in a few words; None where there is nothing."""
        return None

    def file(self, problem: FileProblem) -> None:
        """Look at what is wrong with a file as a whole."""
        if problem.code == self.code:
            self.hit(Origin(problem.path, 0), problem.error.what)

    def finish(self, rows: int) -> Finding | None:
        """The finding, when all rows were seen; None where there is none."""
        return self.finding(f"{self.count:,} of {rows:,} rows") if self.count else None

    def sampled(self) -> dict[str, int]:
        """Where only a part of the rows was looked at: the name of it and how many."""
        return {}

    def hit(self, origin: Origin, says: str) -> None:
        """Count one row."""
        self.count += 1
        if len(self.rows) < SHOWN:
            self.rows.append(SeenRow(origin, says))

    def finding(
        self,
        detail: str,
        *,
        severity: Severity | None = None,
        why: str = "",
        fix: str = "",
        count: int | None = None,
        params: Mapping[str, object] | None = None,
    ) -> Finding:
        """A finding of this rule."""
        return Finding(
            self.code,
            severity or self.severity,
            self.title,
            detail,
            self.count if count is None else count,
            tuple(self.rows),
            why or self.why,
            fix or self.fix,
            params or {},
        )


class PatternRule(Rule):
    """A rule that looks for one pattern in all texts of a row and shows what it found."""

    pattern: ClassVar[re.Pattern[str]]

    def look(self, row: CheckedRow) -> str | None:
        """The first place, with a little around it."""
        found = self.pattern.search(row.text)
        return excerpt(row.text, *found.span()) if found else None


class BadRowRule(Rule):
    """A rule about rows that reading or rendering refuses under this rule's code."""

    severity = "error"
    sees = "problems"

    def look(self, row: CheckedRow) -> str | None:
        """The reason that training would give."""
        problem = row.problem
        return problem.reason if problem is not None and problem.kind == self.code else None
