"""`check`: one pass over the rows, every rule on each, and the figures."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import cast

import numpy as np
from numpy.typing import NDArray

from luthier.config.defaults import Objective, per_device_batch_default
from luthier.data.doctor.finding import SEVERITIES, Finding
from luthier.data.doctor.keys import exact_key, loose_key
from luthier.data.doctor.measure import Measure, sizes_of, uncut
from luthier.data.doctor.places import Places
from luthier.data.doctor.report import BadRows, Report
from luthier.data.doctor.row import CheckedRow
from luthier.data.doctor.rule import DataFacts, Rule
from luthier.data.doctor.rules import RULES
from luthier.data.doctor.stream import Progress, Read, Reading
from luthier.data.prepare import left_out_notices
from luthier.data.reading.read import expand, survey
from luthier.data.rendering.render import Renderer
from luthier.data.types import (
    BadRow,
    Conversation,
    Example,
    Feedback,
    Preference,
    Sample,
    Text,
    num_chars,
)
from luthier.errors import DataError, NoRowsError, TemplateError

RENDERED_ALL, RENDERED_EVERY = 100_000, 10
"""Rows that all are rendered; behind them every tenth is, which the report says."""

_PORTION, _PORTION_CHARS = 512, 4_000_000
"""Rows that are rendered together, and characters beyond which a portion gets no more rows."""

Made = Example | BadRow | DataError | None
"""What is made of a row; None where it is not rendered."""

HEAD = 1000
"""Rows from which the objective is told, where none is given."""


def check(
    files: Sequence[str],
    *,
    renderer: Renderer | None,
    objective: str = "sft",
    columns: Mapping[str, str] | None = None,
    encoding: str | None = None,
    held_out: Sequence[str] = (),
    context: int | None = None,
    hidden_size: int | None = None,
    model: str | None = None,
    progress: Progress | None = None,
) -> Report:
    """Look at every row of the files.

    Memory does not grow with the text: tens of bytes a row, and samples of fixed size.  All rows
    are read and looked at; beyond 100,000, every tenth is rendered to count its tokens.

    Args:
        files: Data sets, as `luthier.data.reading.read.expand` takes them.
        renderer: Training's own, with the seq_length of the run; None counts no tokens.
        objective: What the rows are for: sft, dpo, kto or text.
        held_out: Data sets that must not be among the rows.
        context: Positions the model was built for.
        hidden_size: Of the model, for the cost of attention.

    Raises:
        FileAccessError: A file is missing or no plain file.  What is wrong inside a file is a
            finding, not an error.
    """
    found = survey(list(files))
    paths = found.paths
    if not paths:
        raise NoRowsError("no file is given", fix="luthier data check rows.jsonl")
    reading = Reading(paths, columns=columns, encoding=encoding)
    facts = DataFacts(
        objective,
        renderer.seq_length if renderer else 2048,
        renderer.tokenizer if renderer else None,
        renderer,
        context,
        Places(),
        _held_out_keys(held_out, columns, encoding),
    )
    return _Checkup(facts, reading, hidden_size, found.notices).run(progress, model)


def _held_out_keys(
    names: Sequence[str], columns: Mapping[str, str] | None, encoding: str | None
) -> tuple[NDArray[np.uint64], NDArray[np.uint64]] | None:
    if not names:
        return None
    exact, loose = set(), set()
    for read in Reading(expand(list(names)), columns=columns, encoding=encoding).rows():
        if not isinstance(read.sample, BadRow):
            exact.add(exact_key(read.sample))
            loose.add(loose_key(read.sample))
    return (
        np.fromiter(exact, np.uint64, len(exact)),
        np.fromiter(loose, np.uint64, len(loose)),
    )


class _Checkup:
    """One pass over the rows."""

    def __init__(
        self, facts: DataFacts, reading: Reading, hidden_size: int | None, notices: list[str]
    ) -> None:
        self.said = notices
        self.facts, self.reading = facts, reading
        self.rules: list[Rule] = [rule(facts) for rule in RULES]
        self.rows, self.problems, self.pairs = (
            [rule for rule in self.rules if rule.sees == kind]
            for kind in ("rows", "problems", "pairs")
        )
        self.bad = BadRows()
        self.used = self.read = self.rendered = 0
        self.whole = uncut(facts.renderer) if facts.renderer else None
        self.measure = Measure(seq_length=facts.seq_length, hidden_size=hidden_size)

    def run(self, progress: Progress | None, model: str | None) -> Report:
        for read, index, made in self._rendered(self.reading.rows(progress)):
            row = self._row(read, index, made)
            if row.problem is not None:
                self.bad.add(row.problem)
            else:
                self.used += 1
            for rule in self.rows:
                rule.row(row)
            if row.problem is not None:
                for rule in self.problems:
                    rule.row(row)
            if isinstance(row.sample, Preference):
                for rule in self.pairs:
                    rule.row(row)
        for problem in self.reading.problems:
            for rule in self.rules:
                rule.file(problem)
        objective = cast(Objective, self.facts.objective)
        step, _ = per_device_batch_default(objective, num_samples=max(1, len(self.measure)))
        sampled = {name: count for rule in self.rules for name, count in rule.sampled().items()}
        figures = self.measure.report(samples_per_step=step)
        if self.read > RENDERED_ALL and self.whole is not None:
            sampled["tokens"] = self.rendered
        if figures and figures["sharing_rows"] < len(self.measure):
            sampled["sharing"] = figures["sharing_rows"]
        return Report(
            tuple(self.reading.files),
            self.facts.objective,
            self.read,
            self.used,
            self.bad,
            figures,
            tuple(self._findings()),
            (*self.said, *self.reading.notices, *self._notices()),
            sampled,
            model,
        )

    def _notices(self) -> tuple[str, ...]:
        """What training would say of the rendering."""
        if self.whole is None or self.facts.renderer is None:
            return ()
        said = [*self.facts.renderer.notices, *self.whole.notices, *left_out_notices(self.whole)]
        return tuple(dict.fromkeys(said))

    def _findings(self) -> list[Finding]:
        found = (rule.finish(self.read) for rule in self.rules)
        findings = [finding for finding in found if finding is not None]
        return sorted(findings, key=lambda f: (SEVERITIES.index(f.severity), -f.count, f.code))

    def _rendered(self, reads: Iterable[Read]) -> Iterator[tuple[Read, int, Made]]:
        """Each row with its place, and what the whole renderer makes of it if it is rendered at all."""
        for some in _portions(reads):
            indices = [self.facts.places.add(read.origin) for read in some]
            samples = [self._to_render(*pair) for pair in zip(some, indices, strict=True)]
            wanted = [sample for sample in samples if sample is not None]
            made = self.whole.render_each(wanted) if self.whole is not None else iter(())
            for read, index, sample in zip(some, indices, samples, strict=True):
                yield read, index, None if sample is None else next(made)

    def _to_render(self, read: Read, index: int) -> Sample | None:
        sample = read.inside if isinstance(read.sample, BadRow) else read.sample
        if sample is None or self.whole is None or _wrong_kind(sample, self.facts.objective):
            return None
        return sample if index < RENDERED_ALL or index % RENDERED_EVERY == 0 else None

    def _row(self, read: Read, index: int, made: Made) -> CheckedRow:
        self.read += 1
        fields = read.row.fields if read.row else {}
        row = CheckedRow(index, read.origin, fields, read.format, unused=read.unused)
        if isinstance(read.sample, BadRow):
            row.problem = read.sample
            row.sample = read.inside
            if read.inside is not None:
                self._look_inside(row, read.inside, made)
        else:
            row.sample = read.sample
            self._weigh(row, read.sample, made)
        return row

    def _look_inside(self, row: CheckedRow, sample: Sample, made: Made) -> None:
        """Tokens of a row of no known format, as the columns suggested would make it."""
        problem = row.problem
        self._weigh(row, sample, made)
        row.problem = problem

    def _weigh(self, row: CheckedRow, sample: Sample, made: Made) -> None:
        """Tokens of the row, and what a run with these settings makes of it."""
        if problem := _wrong_kind(sample, self.facts.objective):
            row.problem = BadRow(row.origin, problem, "objective-mismatch")
            return
        if made is None or self.whole is None or self.facts.renderer is None:
            return
        self.rendered += 1
        try:
            if isinstance(made, DataError):
                raise made
            if not isinstance(made, BadRow):
                row.example = made
                row.sizes = sizes_of(sample, made, self.whole.tokenizer)
                if row.sizes.longest > self.facts.seq_length:
                    made = self.facts.renderer.render(sample)
                    row.cut = not isinstance(made, BadRow) and made.cut is not None
        except TemplateError as error:
            row.problem = BadRow(row.origin, error.what, "template-refuses")
            return
        if isinstance(made, BadRow):
            row.problem = made
        if row.sizes is not None and row.example is not None:
            self.measure.add(row.sizes, row.example, pair=isinstance(sample, Preference))


def _portions(reads: Iterable[Read]) -> Iterator[list[Read]]:
    """Rows in portions of a few hundred, or of fewer long ones: what is held at once."""
    some: list[Read] = []
    held = 0
    for read in reads:
        some.append(read)
        held += 0 if isinstance(read.sample, BadRow) else num_chars(read.sample)
        if len(some) == _PORTION or held > _PORTION_CHARS:
            yield some
            some, held = [], 0
    yield some


_USES: Mapping[str, tuple[type, ...]] = {
    "sft": (Conversation, Text),
    "dpo": (Preference,),
    "kto": (Feedback,),
    "text": (Text,),
}
_NAMES: Mapping[type, str] = {
    Conversation: "a conversation",
    Preference: "a preference pair",
    Text: "a text",
    Feedback: "an answer with a label",
}


def _wrong_kind(sample: Sample, objective: str) -> str | None:
    """Why the objective cannot use a sample."""
    if isinstance(sample, _USES.get(objective, (Conversation, Text, Preference, Feedback))):
        return None
    return f"{_NAMES[type(sample)]}, which objective {objective} does not learn from"


def objective_of(samples: Iterable[Sample]) -> str:
    """The objective that most of some samples are for: dpo for pairs, kto for labels, else sft."""
    kinds = Counter(type(sample) for sample in samples)
    for kind, objective in ((Preference, "dpo"), (Feedback, "kto")):
        if kinds[kind] > kinds.total() / 2:
            return objective
    return "sft"


def head_samples(
    files: Sequence[str],
    *,
    columns: Mapping[str, str] | None = None,
    encoding: str | None = None,
    most: int | None = HEAD,
) -> Iterator[Sample]:
    """The samples of the first rows of each file; of all rows where `most` is None."""
    for path in expand(list(files)):
        for number, read in enumerate(Reading([path], columns=columns, encoding=encoding).rows()):
            if most is not None and number >= most:
                break
            if not isinstance(read.sample, BadRow):
                yield read.sample
