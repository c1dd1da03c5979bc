"""Measure a run or a model on held-out rows, as training measures: same rendering, same objective.

With an adapter the base is measured beside it, and where training started from an adapter of its
own, that start too.  DPO is measured against the reference of the training: the model at step 0.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from luthier.config.read import load, load_saved
from luthier.config.settings import Settings
from luthier.engine.determinism import deterministic
from luthier.errors import SettingsError
from luthier.evaluation.metrics import BY_NAME
from luthier.evaluation.report import page
from luthier.evaluation.result import Measured, Section
from luthier.events import SampleAnswered, read_events
from luthier.json_values import JsonObject
from luthier.recipes.after.scoring.answers import wanted_metrics
from luthier.recipes.after.scoring.measure import Asked, measure
from luthier.recipes.after.scoring.subject import Subject
from luthier.recipes.after.scoring.task import Task, open_task
from luthier.recipes.before.recorded import recorded_rendering
from luthier.recipes.run.devices import torch_device
from luthier.runs import RunDirectory
from luthier.sources.source import ModelSource, resolve_source


@dataclass(frozen=True)
class Evaluation:
    """What was measured.

    Args:
        objective: Of the rows: `sft`, `text`, `dpo` or `kto`.
        kind: What the rows are: `chats`, `texts`, `pairs` or `options`.
        rows: Read, used, cut and dropped.
        measured: Each state: `base`, `start` and `tuned`, or `model` where there is no adapter.
        samples: What a run answered at its evaluations.
    """

    model: str
    dataset: tuple[str, ...]
    objective: str
    kind: str
    rows: dict[str, int]
    supervised_tokens: int
    measured: list[Measured]
    notices: list[str] = field(default_factory=list)
    samples: list[SampleAnswered] = field(default_factory=list)

    @property
    def figures(self) -> dict[str, dict[str, float]]:
        """Means per token (SFT, text), pair (DPO) or row, by state and name."""
        return {state.title: state.figures for state in self.measured}

    @property
    def section(self) -> Section:
        """The same, ready to be shown."""
        return Section(", ".join(self.dataset), self.kind, self.rows, self.measured)

    def as_dict(self) -> JsonObject:
        """Plain values."""
        return {
            "model": self.model,
            "objective": self.objective,
            "supervised_tokens": self.supervised_tokens,
            **self.section.as_dict(),
            "dataset": list(self.dataset),
            "notices": list(self.notices),
        }

    def report(self) -> str:
        """The same as a page of HTML."""
        return page(
            f"Evaluation of {self.model}",
            [self.section],
            notices=self.notices,
            samples=self.samples,
        )


def evaluate_model(
    name: str,
    dataset: Sequence[str],
    *,
    objective: str | None = None,
    metrics: Collection[str] | None = None,
    max_new_tokens: int = 256,
) -> Evaluation:
    """Held-out figures of a run's result, an adapter or a model, with their intervals.

    Args:
        name: Run, model folder, adapter folder, gallery name or hub id.
        dataset: Files, folders or hub ids of rows.
        objective: Not given: that of the run's training, SFT for what is no run.
        metrics: Names of `luthier.evaluation.metrics.METRICS`; those of written answers have the
            model write.  Not given: what the rows call for.
        max_new_tokens: Longest answer.

    Raises:
        SettingsError: DPO of what is no run: its reference, the model before, is not known.
        LuthierError: As in training: data, model, memory.
    """
    source = resolve_source(name)
    recorded = recorded_rendering(source)
    settings = settings_of(name, source, dataset, objective, recorded)
    task = open_task(settings, source, recorded)
    asked = asked_of(task, metrics, max_new_tokens)
    device = torch_device()
    with deterministic(device, settings.deterministic):
        subject = Subject(
            settings,
            source,
            device,
            longest=task.longest,
            compares_pairs=compares_pairs(task, settings, source),
        )
        measured = [measure(task, subject, state, asked) for state in subject.states(task.examples)]
    return Evaluation(
        name,
        tuple(dataset),
        task.settings.objective,
        task.kind,
        task.report,
        task.supervised_tokens,
        measured,
        [*task.notices, *subject.notices],
        _samples(source),
    )


def _samples(source: ModelSource) -> list[SampleAnswered]:
    """The answers of a run at its evaluations."""
    path = None if source.run is None else RunDirectory.open(source.run).events_file
    if path is None or not path.exists():
        return []
    return [event for event in read_events(path) if isinstance(event, SampleAnswered)]


def compares_pairs(task: Task, trained: Settings, source: ModelSource) -> bool:
    """Whether preferences are measured as they were trained: against the reference, by its loss."""
    kinds = {"pairs": "dpo", "labels": "kto"}
    return source.run is not None and kinds.get(task.kind) == trained.objective


def asked_of(
    task: Task, metrics: Collection[str] | None, max_new_tokens: int, *, answers: int = 0
) -> Asked:
    """What the rows are asked, with the extras it takes looked for before a model is loaded.

    Raises:
        SettingsError: A metric is not known, or not for these rows.
    """
    if unknown := [name for name in metrics or () if name not in BY_NAME]:
        raise SettingsError(
            f"--metrics {','.join(unknown)}",
            why=f"the metrics are {', '.join(BY_NAME)}",
            fix="--metrics numeric, or leave it out: what the rows call for is measured",
        )
    if max_new_tokens < 1:
        raise SettingsError(
            f"--max-new-tokens {max_new_tokens}",
            why="an answer has a length of 1 or more",
            fix="--max-new-tokens 256",
        )
    return Asked(wanted_metrics(task.items, metrics), answers, max_new_tokens)


def settings_of(
    name: str,
    source: ModelSource,
    dataset: Sequence[str],
    objective: str | None,
    how: Mapping[str, Any],
) -> Settings:
    """Those of the training, or defaults, with rendering as it was and the rows asked for."""
    if source.run is not None:
        resolved = load_saved(source.run / "settings.json")
        trained = resolved.settings.objective
        if objective not in (None, trained):
            raise SettingsError(
                f"--objective {objective}, and the run was trained with {trained}",
                why="a run is measured by the objective of its training",
                fix="leave --objective out",
            )
    else:
        objective = objective or ("sft" if how.get("objective") != "text" else "text")
        if objective in ("dpo", "kto"):
            raise SettingsError(
                f"--objective {objective}, and {name} is not a run",
                why="preferences are measured against the model that training started from",
                fix=f"luthier eval RUN --dataset FILE, where RUN has objective {objective}; or leave it out",
            )
        method = "lora" if source.adapter else "full"
        resolved = load({"model": name, "dataset": list(dataset), "objective": objective})
        resolved = resolved.fill(method=(method, "what there is to measure"))
    changed: dict[str, object] = {"dataset": tuple(dataset), "eval_dataset": (), "eval_split": 0.0}
    return resolved.settings.model_copy(update=changed)
