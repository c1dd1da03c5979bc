"""Measure a run or a model on held-out rows, as training measures: same rendering, same objective.

With an adapter the base is measured beside it, and where training started from an adapter of its
own, that start too.  DPO is measured against the reference of the training: the model at step 0.
"""

import contextlib
import dataclasses
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from luthier.config.read import Resolved, load, load_saved
from luthier.config.settings import Settings
from luthier.data.prepare import Prepared, prepare
from luthier.data.types import Example
from luthier.engine.determinism import deterministic
from luthier.engine.distribution import Ranks
from luthier.engine.evaluate import evaluate
from luthier.engine.interrupt import Interrupt
from luthier.errors import SettingsError
from luthier.planner.choose import Chooser, MemoryChoice, choose_dtype, choose_for_memory
from luthier.planner.plan import how_of
from luthier.planner.shape import Shape
from luthier.recipes.before.opening import open_run
from luthier.recipes.before.recorded import recorded_rendering
from luthier.recipes.run.context import Post
from luthier.recipes.run.devices import DTYPES, facts_of, torch_device
from luthier.recipes.run.objective import Objective, PairObjective, TokenObjective
from luthier.recipes.run.record import hash_weights
from luthier.recipes.run.reference import reference_values
from luthier.recipes.run.saving import settings_fingerprints
from luthier.recipes.run.steps import Cutter, EvalSource
from luthier.recipes.run.trainee import Trainee, make_trainee
from luthier.runs import RunDirectory
from luthier.sources.adapter_config import WEIGHTS
from luthier.sources.source import ModelSource, resolve_source


@dataclass(frozen=True)
class Evaluation:
    """What was measured.

    Args:
        rows: Read, used, cut and dropped.
        figures: Means per token (SFT, text) or pair (DPO), under `base`, `start` and `tuned`, or
            under `model` where there is no adapter.
    """

    model: str
    objective: str
    rows: dict[str, int]
    supervised_tokens: int
    figures: dict[str, dict[str, float]]
    notices: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return dataclasses.asdict(self)


def evaluate_model(
    name: str, dataset: Sequence[str], *, objective: str | None = None
) -> Evaluation:
    """Held-out figures of a run's result, an adapter or a model.

    Args:
        name: Run, model folder, adapter folder, gallery name or hub id.
        dataset: Files, folders or hub ids of rows.
        objective: Not given: that of the run's training, SFT for what is no run.

    Raises:
        SettingsError: DPO of what is no run: its reference, the model before, is not known.
        LuthierError: As in training: data, model, memory.
    """
    source = resolve_source(name)
    resolved = _settings(name, source, dataset, objective)
    settings = resolved.settings
    prepared, rendering_notices = _read(settings, source)
    device = torch_device()
    with deterministic(device, settings.deterministic):
        measured = _Measured(settings, source, prepared.examples, device)
        figures = {title: _shown(found) for title, found in measured.figures()}
    return Evaluation(
        name,
        settings.objective,
        {key: prepared.report["rows"][key] for key in ("read", "used", "cut", "dropped")},
        prepared.report["supervised_tokens"],
        figures,
        [*rendering_notices, *prepared.notices, *measured.notices],
    )


def _settings(
    name: str, source: ModelSource, dataset: Sequence[str], objective: str | None
) -> Resolved:
    """Those of the training, or defaults, with rendering as it was and the rows asked for."""
    how = recorded_rendering(source)
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
        if objective == "dpo":
            raise SettingsError(
                f"--objective dpo, and {name} is not a run",
                why="preferences are measured against the model that training started from",
                fix="luthier eval RUN --dataset FILE, where RUN has objective dpo; or --objective sft",
            )
        method = "lora" if source.adapter else "full"
        resolved = load({"model": name, "dataset": list(dataset), "objective": objective})
        resolved = resolved.fill(method=(method, "what there is to measure"))
    changed: dict[str, Any] = {"dataset": tuple(dataset), "eval_dataset": (), "eval_split": 0.0}
    settings = resolved.settings.model_copy(update=changed)
    return dataclasses.replace(resolved, settings=settings)


def _read(settings: Settings, source: ModelSource) -> tuple[Prepared, tuple[str, ...]]:
    opening = open_run(settings, source, recorded=recorded_rendering(source))
    prepared = prepare(opening.rows, opening.renderer, bad_rows=settings.bad_rows, role="eval")
    return prepared, opening.notices


def _shown(means: dict[str, float]) -> dict[str, float]:
    """With the perplexity behind a loss per token."""
    if "rewards_margins" in means:
        return means
    found = {"loss": means["loss"]}
    found["perplexity"] = math.exp(min(700.0, means["loss"]))
    return found | {name: value for name, value in means.items() if name != "loss"}


class _Measured:
    """A model loaded as for training, and measured in each of its states."""

    def __init__(
        self,
        settings: Settings,
        source: ModelSource,
        examples: list[Example],
        device: torch.device,
    ) -> None:
        self.settings, self.source, self.examples = settings, source, examples
        self.device, self.facts = device, facts_of(device)
        self.notices: list[str] = []
        start = source.run / "start" if source.run is not None else None
        self.start = start if start is not None and start.is_dir() else None

    def figures(self) -> Iterator[tuple[str, dict[str, float]]]:
        """A title and the means of each state of the model: base, start, tuned."""
        compares = self.settings.needs_reference
        if compares and self.source.adapter is None:
            before = self._reference(self._load(self._before()))  # freed before the next is loaded
            yield "model", self._means(self._load(self.source), before)
            return
        trainee = self._load(self.source, adapter=self.start or self.source.adapter)
        if trainee.adapters is None:
            yield "model", self._means(trainee, None)
            return
        reference = self._reference(trainee) if compares else None
        with trainee.adapters.disabled():
            yield "base", self._means(trainee, reference)
        if self.start is not None:
            assert self.source.adapter is not None
            yield "start", self._means(trainee, reference)
            trainee.adapters.load_state(load_file(self.source.adapter / WEIGHTS))
        yield "tuned", self._means(trainee, reference)

    def _before(self) -> ModelSource:
        """The whole model that a full-parameter run began with."""
        return resolve_source(self.settings.model, revision=self.settings.revision)

    def _load(self, source: ModelSource, *, adapter: Path | None = None) -> Trainee:
        settings = self.settings
        name, _ = choose_dtype(settings.torch_dtype, self.facts)
        source = dataclasses.replace(source, adapter=adapter)
        trainee = make_trainee(
            settings.model_copy(update={"from_scratch": False}), source, DTYPES[name], self.device
        )
        trainee.model.requires_grad_(False)
        self.notices = [text for text in trainee.report if text not in self.notices]
        trainee.ready(checkpointing="none", seed=settings.seed)
        return trainee

    def _reference(self, trainee: Trainee) -> Tensor:
        """Log-probabilities under the model at step 0, from the cache that training fills too."""
        run = self.source.run
        assert run is not None
        post = Post(RunDirectory.open(run), Ranks(), None, Interrupt(), self.device, self.facts)
        base = self.source.base if self.source.adapter is not None else self._before().base
        prints = {
            "base model": hash_weights(base),
            "starting adapter": hash_weights(self.start) if self.start else "new",
            **settings_fingerprints(self.settings),
        }
        fresh = trainee.adapters is not None and self.start is None
        with (
            trainee.adapters.disabled() if fresh and trainee.adapters else contextlib.nullcontext()
        ):
            share = self._cut(trainee).share
            return reference_values(post, trainee, self.examples, prints, share=share)

    def _means(self, trainee: Trainee, reference: Tensor | None) -> dict[str, float]:
        judge: Objective = TokenObjective(trainee)
        if self.settings.objective == "dpo":
            judge = PairObjective(trainee, reference, self.settings)
        chosen = self._cut(trainee)
        source = EvalSource(
            Cutter(
                self.examples,
                objective=self.settings.objective,
                budget=chosen.tokens,
                share=chosen.share,
                max_sequences=trainee.max_sequences,
                ranks=Ranks(),
                warn=self.notices.append,
            )
        )
        return evaluate(judge, lambda: source.plan(0), shrink=source.shrink)

    def _cut(self, trainee: Trainee) -> MemoryChoice:
        """How much is computed at once; nothing is trained: no gradients, and no optimiser."""
        how = how_of(self.settings, self.source.family, self.facts)
        still = dataclasses.replace(how, full=False, whole=())
        return choose_for_memory(
            self.settings,
            Chooser(Shape.from_config(self.source.config), still, self.facts),
            longest=max(sum(len(s.ids) for s in e.sequences) for e in self.examples),
            packable=trainee.packed,
        )
