"""A model loaded as for training, in each of its states: base, start and tuned."""

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors.torch import load_file
from torch import Tensor

from luthier.config.settings import Settings
from luthier.data.types import Example
from luthier.engine.distribution import Ranks
from luthier.engine.interrupt import Interrupt
from luthier.planner.choose import Chooser, MemoryChoice, choose_dtype, choose_for_memory
from luthier.planner.plan import how_of
from luthier.planner.shape import Shape
from luthier.recipes.run.context import Post
from luthier.recipes.run.devices import DTYPES, facts_of
from luthier.recipes.run.objective import with_mismatched
from luthier.recipes.run.record import hash_weights
from luthier.recipes.run.reference import reference_values
from luthier.recipes.run.saving import settings_fingerprints
from luthier.recipes.run.trainee import Trainee, make_trainee
from luthier.runs import RunDirectory
from luthier.sources.adapter_config import WEIGHTS
from luthier.sources.source import ModelSource, resolve_source


class SubjectState(NamedTuple):
    """A state of a model while it lasts.

    Attributes:
        title: `base`, `start` or `tuned`; `model` where there is no adapter.
        reference: Of the pairs, (pairs, 2), where they are measured against one.
    """

    title: str
    trainee: Trainee
    reference: Tensor | None


class Subject:
    """Loads a model, and gives it in its states.

    Args:
        settings: Of its training.
        longest: Tokens of the largest example that is scored.
        compares_pairs: Whether the rows are pairs, measured by the objective of a run's training.
        only: The one state that is wanted: `base`, or `tuned` for the result as it is; all if empty.
    """

    def __init__(
        self,
        settings: Settings,
        source: ModelSource,
        device: torch.device,
        *,
        longest: int,
        compares_pairs: bool = False,
        only: str = "",
    ) -> None:
        self.settings, self.source = settings, source
        self.device, self.facts = device, facts_of(device)
        self.longest, self.compares_pairs, self.only = longest, compares_pairs, only
        self.notices: list[str] = []
        start = source.run / "start" if source.run is not None else None
        self.start = start if start is not None and start.is_dir() else None

    def states(self, examples: Sequence[Example]) -> Iterator[SubjectState]:
        """Each state; the one before is over when the next is asked for.

        Args:
            examples: Those that may have to be measured against the model before training.
        """
        referenced = self.compares_pairs and self.settings.needs_reference
        pairs = examples if referenced else ()
        if pairs and self.settings.objective == "kto":
            pairs = with_mismatched(pairs, self.settings)
        if pairs and self.source.adapter is None:
            # Freed before the next is loaded.
            before = self._reference(self._load(self._before()), pairs)
            yield SubjectState("model", self._load(self.source), before)
            return
        trainee = self._load(self.source, adapter=self.start or self.source.adapter)
        if trainee.adapters is None:
            yield SubjectState("model", trainee, None)
            return
        reference = self._reference(trainee, pairs) if pairs else None
        if self.only in ("", "base"):
            with trainee.adapters.disabled():
                yield SubjectState("base", trainee, reference)
            if self.only:
                return
        if self.start is not None:
            assert self.source.adapter is not None
            if not self.only:
                yield SubjectState("start", trainee, reference)
            trainee.adapters.load_state(load_file(self.source.adapter / WEIGHTS))
        yield SubjectState("tuned", trainee, reference)

    def cut(self, trainee: Trainee) -> MemoryChoice:
        """How much is computed at once; nothing is trained: no gradients, and no optimiser."""
        how = how_of(self.settings, self.source.family, self.facts)
        still = dataclasses.replace(how, full=False, whole=())
        return choose_for_memory(
            self.settings,
            Chooser(Shape.from_config(self.source.config), still, self.facts),
            longest=self.longest,
            packable=trainee.packed,
        )

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
        self.notices += [text for text in trainee.report if text not in self.notices]
        trainee.ready(checkpointing="none", seed=settings.seed)
        return trainee

    def _reference(self, trainee: Trainee, pairs: Sequence[Example]) -> Tensor:
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
            share = self.cut(trainee).share
            return reference_values(post, trainee, pairs, prints, share=share)
