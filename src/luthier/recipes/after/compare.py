"""The same rows through several models: paired differences, answers side by side, what is forgotten.

A model without a record of its own is read as a run that stands on it is: same template, same system
text, same tokens.  Otherwise each is asked as it was trained, and the loss is compared only where both
read the same tokens.
"""

import dataclasses
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from luthier.config.settings import Settings
from luthier.engine.determinism import deterministic
from luthier.errors import NoRowsError, SettingsError
from luthier.evaluation.judge import Ask, judge_pairs
from luthier.evaluation.report import page
from luthier.evaluation.result import Measured, Section
from luthier.evaluation.verdict import Verdict
from luthier.json_values import JsonObject
from luthier.recipes.after.evaluate import asked_of, settings_of
from luthier.recipes.after.scoring.measure import Asked, measure
from luthier.recipes.after.scoring.subject import Subject
from luthier.recipes.after.scoring.task import Task, open_task
from luthier.recipes.before.recorded import recorded_rendering
from luthier.recipes.run.devices import torch_device
from luthier.sources.source import ModelSource, resolve_source


@dataclass(frozen=True)
class Compared:
    """What a comparison found.

    Attributes:
        names: The models as given; the first is the base of the comparison.
        sections: The rows asked for, then the general rows, if any.
    """

    names: tuple[str, ...]
    sections: list[Section]
    notices: list[str] = field(default_factory=list)

    def verdicts(self, section: int, name: str) -> list[Verdict]:
        """What the rows of a section show of a model."""
        return self.sections[section].verdicts[name]

    def as_dict(self) -> JsonObject:
        """Plain values."""
        return {
            "models": list(self.names),
            "sections": [section.as_dict() for section in self.sections],
            "notices": list(self.notices),
        }

    def report(self) -> str:
        """The same as a page of HTML."""
        first, *others = self.names
        return page(f"{', '.join(others)} against {first}", self.sections, notices=self.notices)


@dataclass(frozen=True)
class _Contestant:
    """A model, and how its rows are read.

    Args:
        source: What is loaded; of a base that a run stands on the run, its adapter switched off.
    """

    name: str
    source: ModelSource
    settings: Settings
    recorded: Mapping[str, Any]
    only: str = "tuned"


def compare_models(
    names: Sequence[str],
    dataset: Sequence[str],
    *,
    general: Sequence[str] = (),
    metrics: Collection[str] | None = None,
    max_new_tokens: int = 256,
    answers: int = 8,
    judge: Ask | None = None,
) -> Compared:
    """Measure all on the same rows, each in turn, and say what the differences show.

    Args:
        names: Runs, models or adapters; the first is what the others are compared with.
        general: Rows of what a model should still be able to do; a section of their own.
        answers: First rows that are answered in writing where no metric needs it.
        judge: Asked about each pair of answers, in both orders.

    Raises:
        SettingsError: Fewer than two models, the same twice, or metrics that do not suit the rows.
        LuthierError: As in `luthier.recipes.after.evaluate.evaluate_model`.
    """
    check_names(names)
    contestants = _contestants(names, dataset)
    notices: list[str] = []
    sections = []
    for files, title in ((dataset, "task rows"), (general, "general rows: what is forgotten")):
        if not files:
            continue
        tasks = [_task(one, files) for one in contestants]
        tasks = _shared(tasks, notices)
        if tasks[0].kind == "labels":
            raise SettingsError(
                f"{', '.join(files)} holds answers with a label",
                why="they are measured against the model that a run began with, each run by itself",
                fix="luthier eval RUN --dataset FILE",
            )
        if judge is not None and files is dataset and tasks[0].kind != "chats":
            raise SettingsError(
                f"a judge, and {', '.join(dataset)} holds {tasks[0].kind}",
                why="a judge compares answers in writing, which chats have",
                fix="leave --judge out, or give chats as rows",
            )
        asked = asked_of(
            tasks[0], metrics if files is dataset else None, max_new_tokens, answers=answers
        )
        measured = [
            _measured(one, task, asked, notices)
            for one, task in zip(contestants, tasks, strict=True)
        ]
        judged = {}
        if judge is not None and tasks[0].kind == "chats":
            first, *others = measured
            judged = {one.title: judge_pairs(first.rows, one.rows, judge) for one in others}
        heading = f"{title}: {', '.join(files)}"
        sections.append(Section(heading, tasks[0].kind, tasks[0].report, measured, judged))
    return Compared(tuple(names), sections, list(dict.fromkeys(notices)))


def check_names(names: Sequence[str]) -> None:
    """Refuse what is no comparison.

    Raises:
        SettingsError: Fewer than two models.
    """
    if len(names) < 2:
        raise SettingsError(
            f"{len(names)} model to compare",
            why="the first is what the others are compared with",
            fix="luthier compare starter runs/mine --dataset rows.jsonl",
        )


def _contestants(names: Sequence[str], dataset: Sequence[str]) -> list[_Contestant]:
    given = Counter(names)
    titles = [name if given[name] == 1 else f"{name} ({n + 1})" for n, name in enumerate(names)]
    sources = [resolve_source(name) for name in names]
    own = [
        _Contestant(title, source, settings_of(name, source, dataset, None, how), how)
        for name, title, source in zip(names, titles, sources, strict=True)
        for how in [recorded_rendering(source)]
    ]
    return [_as_its_run(one, own) for one in own]


def _as_its_run(one: _Contestant, others: Sequence[_Contestant]) -> _Contestant:
    """A base without a record as the first run on it reads rows; all others as they are."""
    if one.recorded or one.source.adapter or one.source.run:
        return one
    for other in others:
        if not other.recorded:
            continue
        if other.source.adapter is not None and _same(other.source.base, one.source.base):
            return dataclasses.replace(other, name=one.name, only="base")
        if other.source.run is not None and other.source.adapter is None:
            before = resolve_source(other.settings.model, revision=other.settings.revision)
            if _same(before.base, one.source.base):
                return dataclasses.replace(other, name=one.name, source=one.source)
    return one


def _same(one: Path, other: Path) -> bool:
    return one.resolve() == other.resolve()


def _task(one: _Contestant, files: Sequence[str]) -> Task:
    settings = one.settings.model_copy(update={"dataset": tuple(files)})
    return open_task(settings, one.source, one.recorded)


def _shared(tasks: Sequence[Task], notices: list[str]) -> list[Task]:
    """The tasks with the rows that all of them can use.

    Raises:
        NoRowsError: There are none.
    """
    for task in tasks:
        notices += task.notices
    usable = set.intersection(*({item.origin for item in task.items} for task in tasks))
    most = max(len(task.items) for task in tasks)
    if not usable:
        raise NoRowsError(
            "no row can be used by every model",
            why="a comparison is over the same rows; each model leaves out what does not fit into it",
            fix="shorter rows, or models with a longer context",
        )
    if len(usable) < most:
        notices.append(f"{most - len(usable)} rows are left out: not every model can use them")
    return [task.only(usable) for task in tasks]


def _measured(one: _Contestant, task: Task, asked: Asked, notices: list[str]) -> Measured:
    device = torch_device()
    with deterministic(device, one.settings.deterministic):
        subject = Subject(one.settings, one.source, device, longest=task.longest, only=one.only)
        found = [measure(task, subject, state, asked) for state in subject.states(())]
    notices += subject.notices
    return dataclasses.replace(found[-1], title=one.name)
