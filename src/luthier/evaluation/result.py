"""What was measured, ready to be shown: models beside each other on the same rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from luthier.evaluation.interval import LEVEL, Interval
from luthier.evaluation.judge import Judged
from luthier.evaluation.metrics import RowResult
from luthier.evaluation.verdict import Verdict, verdicts
from luthier.json_values import Json, JsonObject

_SHOWN = ("origin", "prompt", "expected", "answer", "whole", "note")


@dataclass(frozen=True)
class Measured:
    """What one model, or one state of it, did.

    Attributes:
        figures: By name.
        intervals: Of those figures whose rows are known.
        rows: One result a row.
    """

    title: str
    figures: dict[str, float]
    intervals: dict[str, Interval]
    rows: list[RowResult] = field(default_factory=list)

    def intervals_as_dict(self) -> JsonObject:
        """By figure: both ends, and how they were found."""
        return {
            name: {"low": found.low, "high": found.high, "method": found.method}
            for name, found in self.intervals.items()
        }

    def rows_as_dicts(self) -> list[Json]:
        """Each row with its own figures."""
        made: list[Json] = []
        for row in self.rows:
            plain = {name: getattr(row, name) for name in _SHOWN}
            made.append({**plain, "figures": {name: row.figure(name) for name in row.parts}})
        return made


@dataclass(frozen=True)
class Section:
    """Models on one set of rows; the first is what the others are compared with.

    Attributes:
        heading: What the rows are.
        kind: `chats`, `texts`, `pairs` or `options`.
        counts: Rows read, used, cut and dropped, of the first model.
        judged: By model: what a judge says of its answers beside those of the first.
    """

    heading: str
    kind: str
    counts: Mapping[str, int]
    measured: Sequence[Measured]
    judged: Mapping[str, Judged] = field(default_factory=dict)

    @property
    def verdicts(self) -> dict[str, list[Verdict]]:
        """By model, one for each metric that it shares with the first."""
        first, *others = self.measured
        return {other.title: verdicts(first.rows, other.rows) for other in others}

    def as_dict(self) -> JsonObject:
        """Plain values."""
        return {
            "dataset": self.heading,
            "kind": self.kind,
            "rows": dict(self.counts),
            "level": LEVEL,
            "figures": {one.title: dict(one.figures) for one in self.measured},
            "intervals": {one.title: one.intervals_as_dict() for one in self.measured},
            "verdicts": {
                name: [one.as_dict() for one in said] for name, said in self.verdicts.items()
            },
            "judged": {name: one.as_dict() for name, one in self.judged.items()},
            "results": {one.title: one.rows_as_dicts() for one in self.measured},
        }
